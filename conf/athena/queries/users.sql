-- Who used the API: every user with requests, failures and addresses.
-- Policy: who is recorded.
-- Cost: metadata only.
-- jq: requests | group_by(who)[]
--     | {effectiveuser: .[0] | who, requests: length, failed: (map(select((.responseStatus.code // 0) >= 400)) | length), peers: ([.[].sourceIPs[-1]] | unique | length)}
SELECT effectiveuser, usertype, count(*) AS requests, count_if(code >= 400) AS failed, count(DISTINCT peerip) AS peers,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY effectiveuser, usertype
ORDER BY requests DESC, effectiveuser;
