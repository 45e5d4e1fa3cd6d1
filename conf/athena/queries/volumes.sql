-- Changes to volumes, claims, storage classes and snapshots, which is how data is
-- copied out of sight.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not)) | select((.objectRef.subresource // "") != "status")
--     | select(.objectRef.resource | IN("persistentvolumes", "persistentvolumeclaims", "storageclasses", "volumeattachments", "volumesnapshots", "volumesnapshotcontents"))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: ref(.namespace), name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource IN ('persistentvolumes', 'persistentvolumeclaims', 'storageclasses', 'volumeattachments', 'volumesnapshots', 'volumesnapshotcontents')
  AND subresource <> 'status'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
