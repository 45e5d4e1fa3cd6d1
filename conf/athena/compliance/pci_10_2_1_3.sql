-- Who touched the audit pipeline in the cluster, reading included. Who read the
-- archive is in the data events of its bucket (CloudTrail), not here.
-- Control: PCI DSS v4.0.1 10.2.1.3, all access to audit logs.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(.objectRef.namespace == "security")
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_3 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE namespace = 'security';

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_3 AS SELECT * FROM pci_10_2_1_3;
