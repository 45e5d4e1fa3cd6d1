-- Objects of the system made and removed: cluster-scoped ones, and those in the
-- namespaces of the control plane and of the audit pipeline.
-- Control: PCI DSS v4.0.1 10.2.1.7, all creation and deletion of system-level objects.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(.verb | IN("create", "delete", "deletecollection")) | select(succeeded and (dryrun | not)) | select((.objectRef.resource // "") != "")
--     | select((.objectRef.resource | IN("leases", "events", "subjectaccessreviews", "tokenreviews", "selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews", "localsubjectaccessreviews")) | not)
--     | select((.objectRef.namespace // "") | IN("", "kube-system", "kube-public", "kube-node-lease", "security"))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_7 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE verb IN ('create', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND resource NOT IN ('', 'leases', 'events', 'subjectaccessreviews', 'tokenreviews', 'selfsubjectaccessreviews', 'selfsubjectreviews',
    'selfsubjectrulesreviews', 'localsubjectaccessreviews')
  AND namespace IN ('', 'kube-system', 'kube-public', 'kube-node-lease', 'security');

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_7 AS SELECT * FROM pci_10_2_1_7;
