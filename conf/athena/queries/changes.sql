-- What people and programs changed: writes that succeeded and were no dry run.
-- Leases, Events and status updates are left out: they are most of the writes and
-- change nothing that anybody decided.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not))
--     | select((.objectRef.resource // "") | IN("leases", "events") | not) | select((.objectRef.subresource // "") != "status")
--     | {effectiveuser: who, verb, resource: ref(.resource), namespace: ref(.namespace), name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND resource NOT IN ('leases', 'events')
  AND subresource <> 'status'
ORDER BY stagetimestamp;
