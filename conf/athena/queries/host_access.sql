-- Pods and workloads that were given the node: hostPath volumes, the host's
-- network, processes or IPC.
-- Policy: needs bodies at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(change and succeeded and (dryrun | not))
--     | select(.requestObject | tojson | test("\"hostPath\" *: *\\{|\"host(Network|PID|IPC)\" *: *true"))
--     | select(.objectRef.apiGroup // "" | IN("", "apps", "batch"))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: ref(.namespace), name: named, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, namespace,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS name,
  array_join(regexp_extract_all(requestobject, '"hostPath" *: *\{[^}]*"path" *: *"([^"]*)"', 1), ' ') AS hostpaths, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND verb IN ('create', 'update', 'patch')
  AND apigroup IN ('', 'apps', 'batch')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND regexp_like(requestobject, '"hostPath" *: *\{|"host(Network|PID|IPC)" *: *true')
ORDER BY stagetimestamp;
