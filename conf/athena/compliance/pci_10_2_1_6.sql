-- Changes that could stop the audit trail: in the pipeline's namespace, sessions into
-- it, and to API server pods. The plugin's own starts and stops are records under
-- _writer/ beside the table.
-- Control: PCI DSS v4.0.1 10.2.1.6, initialization of new audit logs, and starting, stopping
--     or pausing of existing ones.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(((.objectRef.namespace // "") == "security" and (change or (.objectRef.subresource // "" | IN("exec", "attach", "portforward", "ephemeralcontainers"))))
--        or (change and .objectRef.namespace == "kube-system" and (.objectRef.name // "" | test("^kube-apiserver"))))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_6 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE ((namespace = 'security'
    AND (verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
      OR subresource IN ('exec', 'attach', 'portforward', 'ephemeralcontainers')))
  OR (namespace = 'kube-system' AND name LIKE 'kube-apiserver%'
    AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')));

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_6 AS SELECT * FROM pci_10_2_1_6;
