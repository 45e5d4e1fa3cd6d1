-- What was deleted, by delete, deletecollection and eviction. Where an owner or a
-- namespace is deleted, what belonged to it goes by the hand of
-- system:serviceaccount:kube-system:generic-garbage-collector or
-- namespace-controller: look for the owner's own deletion shortly before.
-- deletecollection does not name what it deleted.
-- Policy: complete at Metadata; a policy that drops controllers drops cascades.
-- Cost: metadata only.
-- jq: requests[] | select(succeeded and (dryrun | not)) | select((.verb | IN("delete", "deletecollection")) or .objectRef.subresource == "eviction")
--     | {effectiveuser: who, verb, resource: ref(.resource), namespace: ref(.namespace), name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, subresource, namespace, name, code, requesturi, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND (verb IN ('delete', 'deletecollection') OR subresource = 'eviction')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
