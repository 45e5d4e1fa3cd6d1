-- Who created, changed or deleted Secrets and ConfigMaps. Their values are in no
-- archive that was written with a shipped policy.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(.objectRef.resource | IN("secrets", "configmaps")) | select(change and succeeded and (dryrun | not))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: ref(.namespace), name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, verb, resource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource IN ('secrets', 'configmaps')
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
