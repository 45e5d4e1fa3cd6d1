-- Audit IDs under which more than one request was made. A client may choose its
-- own with the header Audit-ID, by accident or in order to hide behind another
-- event. Aggregated API servers repeat the ID of the request they serve.
-- Policy: complete where both requests are recorded.
-- Cost: metadata only.
-- jq: requests | group_by(.auditID)[] | select(length > 1)
--     | {auditid: .[0].auditID, requests: length, users: (map(who) | unique | length)}
SELECT auditid, count(*) AS requests, count(DISTINCT effectiveuser) AS users,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last, min(requesturi) AS oneuri, max(requesturi) AS otheruri
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY auditid
HAVING count(*) > 1
ORDER BY requests DESC, auditid;
