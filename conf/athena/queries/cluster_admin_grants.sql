-- Who was made cluster-admin, by whom: bindings to cluster-admin, with subjects.
-- A patch carries only what it changes, so the answer is read too where the
-- policy keeps it. A role with all verbs on all resources under another name is
-- no less than cluster-admin: rbac_changes.sql shows its rules.
-- Policy: needs bodies of rolebindings and clusterrolebindings, at Request; for
-- patches of an existing binding at RequestResponse.
-- Cost: reads requestobject and responseobject.
-- jq: requests[] | select(.objectRef.resource | IN("clusterrolebindings", "rolebindings")) | select(change and succeeded and (dryrun | not))
--     | select((.requestObject.roleRef.name? // .responseObject.roleRef.name? // "") == "cluster-admin")
--     | {effectiveuser: who, verb, namespace: ref(.namespace), binding: named,
--        subjects: ((.requestObject.subjects? // .responseObject.subjects?) | json), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, verb, namespace,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS binding,
  nullif(json_format(coalesce(json_extract(requestobject, '$.subjects'), json_extract(responseobject, '$.subjects'))), 'null') AS subjects,
  peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource IN ('clusterrolebindings', 'rolebindings')
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND coalesce(json_extract_scalar(requestobject, '$.roleRef.name'), json_extract_scalar(responseobject, '$.roleRef.name')) = 'cluster-admin'
ORDER BY stagetimestamp;
