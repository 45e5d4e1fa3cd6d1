-- Requests by verb and resource.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: requests | group_by([.verb, .objectRef.resource // ""])[] | {verb: .[0].verb, resource: (.[0] | ref(.resource)), requests: length}
SELECT verb, resource, count(*) AS requests, count_if(code >= 400) AS failed, count(DISTINCT effectiveuser) AS users
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY verb, resource
ORDER BY requests DESC, verb, resource;
