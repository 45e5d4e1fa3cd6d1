-- Changes to what sees or answers other people's requests: admission webhooks and
-- policies, aggregated APIs, custom resource definitions.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not)) | select((.objectRef.subresource // "") == "")
--     | select(.objectRef.apiGroup | IN("admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io"))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND apigroup IN ('admissionregistration.k8s.io', 'apiregistration.k8s.io', 'apiextensions.k8s.io')
  AND subresource = ''
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
