-- Pods and workloads that were given a privileged container, privilege
-- escalation or capabilities. The text of the body is searched, so init and
-- ephemeral containers, templates and patches of any kind are found alike.
-- Policy: needs bodies at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(change and succeeded and (dryrun | not))
--     | select(.requestObject | tojson | test("\"privileged\" *: *true|\"allowPrivilegeEscalation\" *: *true|\"capabilities\" *: *\\{[^}]*\"add\""))
--     | select(.objectRef.apiGroup // "" | IN("", "apps", "batch"))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: ref(.namespace), name: named, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, subresource, namespace,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS name,
  regexp_like(requestobject, '"privileged" *: *true') AS privileged,
  regexp_like(requestobject, '"capabilities" *: *\{[^}]*"add"') AS capabilities, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND verb IN ('create', 'update', 'patch')
  AND apigroup IN ('', 'apps', 'batch')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND regexp_like(requestobject, '"privileged" *: *true|"allowPrivilegeEscalation" *: *true|"capabilities" *: *\{[^}]*"add"')
ORDER BY stagetimestamp;
