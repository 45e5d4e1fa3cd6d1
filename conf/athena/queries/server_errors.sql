-- Requests that the API server or something behind it failed to answer (5xx).
-- Policy: what is recorded at all.
-- Cost: metadata only.
-- jq: [requests[] | select((.responseStatus.code // 0) >= 500)] | group_by([.responseStatus.code, .verb, .objectRef.resource // "", .requestURI])[]
--     | {code: .[0].responseStatus.code, verb: .[0].verb, resource: (.[0] | ref(.resource)), requests: length}
SELECT code, verb, resource, requesturi, count(*) AS requests, max(responsestatus.message) AS message,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND code >= 500
GROUP BY code, verb, resource, requesturi
ORDER BY requests DESC, requesturi;
