-- Changes to roles and bindings that succeeded, with what was sent.
-- bind, escalate and impersonate are checked inside other requests: a refusal of
-- them is in refused.sql.
-- Policy: that it happened, at Metadata; what was granted, at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(.objectRef.apiGroup == "rbac.authorization.k8s.io") | select(change and succeeded and (dryrun | not))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, name: named, rules: (.requestObject.rules | json), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, verb, resource, namespace,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS name, code,
  nullif(json_format(json_extract(requestobject, '$.rules')), 'null') AS rules,
  nullif(json_format(json_extract(requestobject, '$.roleRef')), 'null') AS roleref,
  nullif(json_format(json_extract(requestobject, '$.subjects')), 'null') AS subjects, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND apigroup = 'rbac.authorization.k8s.io'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
