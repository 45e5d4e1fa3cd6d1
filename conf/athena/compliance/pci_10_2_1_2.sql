-- Everything done with administrative rights: by members of system:masters, or
-- allowed through cluster-admin.
-- Control: PCI DSS v4.0.1 10.2.1.2, all actions taken by any individual with administrative access.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(((.user.groups // []) | any(. == "system:masters"))
--        or ((.impersonatedUser.groups // []) | any(. == "system:masters"))
--        or (.annotations["authorization.k8s.io/reason"] // "" | test("ClusterRole \"cluster-admin\"")))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_2 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE contains(userinfo.groups, 'system:masters')
   OR contains(impersonateduser.groups, 'system:masters')
   OR decisionreason LIKE '%ClusterRole "cluster-admin"%';

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_2 AS SELECT * FROM pci_10_2_1_2;
