-- Requests that the authorizer or an admission check refused (403), by user and
-- target. 404 and 409 are most of the 4xx and mean no refusal: failed_requests.sql.
-- Policy: a policy that drops a resource or a user drops its refusals too.
-- Cost: metadata only.
-- jq: [requests[] | select(.responseStatus.code == 403)]
--     | group_by([who, .verb, .objectRef.resource // "", .objectRef.subresource // "", .objectRef.namespace // ""])[]
--     | {effectiveuser: .[0] | who, verb: .[0].verb, resource: (.[0] | ref(.resource)), namespace: (.[0] | ref(.namespace)), requests: length}
SELECT effectiveuser, verb, resource, subresource, namespace, count(*) AS requests,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last, max(decisionreason) AS reason, max(peerip) AS peerip
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND code = 403
GROUP BY effectiveuser, verb, resource, subresource, namespace
ORDER BY requests DESC, effectiveuser, verb, resource, subresource, namespace;
