-- Who touched the audit pipeline: writes in its namespace, sessions into it, and
-- changes to API server pods. A policy or flag that is changed in a file on a
-- control-plane node makes no event; what the plugin started with is recorded
-- beside the table under _writer/ and _policy/.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(((.objectRef.namespace // "") == "security" and (change or (.objectRef.subresource // "" | IN("exec", "attach", "portforward", "ephemeralcontainers"))))
--       or (change and .objectRef.namespace == "kube-system" and (.objectRef.name // "" | test("^kube-apiserver"))))
--     | {effectiveuser: who, verb, resource: .objectRef.resource, namespace: .objectRef.namespace, name: ref(.name), code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, resource, subresource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND ((namespace = 'security'
      AND (verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
        OR subresource IN ('exec', 'attach', 'portforward', 'ephemeralcontainers')))
    OR (namespace = 'kube-system' AND name LIKE 'kube-apiserver%'
      AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')))
ORDER BY stagetimestamp;
