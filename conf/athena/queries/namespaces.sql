-- Namespaces that were created, changed or deleted.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(.objectRef.resource == "namespaces") | select((.objectRef.subresource // "") != "status") | select(change and succeeded and (dryrun | not))
--     | {effectiveuser: who, verb, subresource: ref(.subresource), name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, subresource, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource = 'namespaces'
  AND subresource <> 'status'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
