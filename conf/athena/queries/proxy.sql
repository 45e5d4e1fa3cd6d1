-- Requests through the API server to pods, services and kubelets (proxy), which
-- pass by network policies and by the target's own log.
-- Policy: complete at Metadata. The path behind proxy/ is what redaction leaves.
-- Cost: metadata only.
-- jq: requests[] | select(.objectRef.subresource == "proxy")
--     | {effectiveuser: who, verb, resource: .objectRef.resource, name: .objectRef.name, code: .responseStatus.code, requesturi: .requestURI}
SELECT stagetimestamp, effectiveuser, verb, resource, namespace, name, code, requesturi, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND subresource = 'proxy'
ORDER BY stagetimestamp;
