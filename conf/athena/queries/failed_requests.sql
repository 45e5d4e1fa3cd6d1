-- Everything that failed, by status code: the analysis script's "failed requests".
-- 404 and 409 come first and seldom matter: clients look before they create, and
-- controllers write over each other. 401 and 403: failed_logins.sql, refused.sql.
-- Policy: what is recorded at all.
-- Cost: metadata only.
-- jq: [requests[] | select((.responseStatus.code // 0) >= 400)] | group_by([.responseStatus.code, .responseStatus.reason // ""])[]
--     | {code: .[0].responseStatus.code, reason: (.[0].responseStatus.reason // ""), requests: length, users: (map(who) | unique | length)}
SELECT code, responsestatus.reason AS reason, count(*) AS requests, count(DISTINCT effectiveuser) AS users,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND code >= 400
GROUP BY code, responsestatus.reason
ORDER BY requests DESC, code, reason;
