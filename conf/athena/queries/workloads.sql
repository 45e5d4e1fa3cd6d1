-- Deployments of software: changes to workloads, with images where the body was
-- kept. Scaling is a change of the subresource scale.
-- Policy: that it happened, at Metadata; images, at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(change and succeeded and (dryrun | not)) | select((.objectRef.subresource // "") != "status")
--     | select(.objectRef.resource | IN("deployments", "statefulsets", "daemonsets", "jobs", "cronjobs", "replicationcontrollers"))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: ref(.namespace), name: named,
--        images: ([.requestObject | tojson | scan("\"image\" *: *\"([^\"]*)\"")[0]] | join(" ")), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, subresource, namespace,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS name, code,
  coalesce(array_join(regexp_extract_all(requestobject, '"image" *: *"([^"]*)"', 1), ' '), '') AS images, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource IN ('deployments', 'statefulsets', 'daemonsets', 'jobs', 'cronjobs', 'replicationcontrollers')
  AND subresource <> 'status'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
