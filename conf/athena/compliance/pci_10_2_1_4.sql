-- Attempts that were not logged in or not allowed.
-- Control: PCI DSS v4.0.1 10.2.1.4, all invalid logical access attempts.
-- Policy: complete at Metadata for all users; needs stage ResponseStarted.
-- Cost: metadata only.
-- jq: requests[] | select(((.responseStatus.code | IN(401, 403)) or (.user.username // "") == ""))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_4 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE code IN (401, 403) OR username = '';

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_4 AS SELECT * FROM pci_10_2_1_4;
