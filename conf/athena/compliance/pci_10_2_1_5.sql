-- Changes of identities, credentials and rights, and use of another identity.
-- Control: PCI DSS v4.0.1 10.2.1.5, all changes to identification and authentication
--     credentials: new accounts, elevated privileges, changes of accounts with
--     administrative access.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(succeeded and (dryrun | not))
--     | select(.impersonatedUser != null or (change and ((.objectRef.apiGroup == "rbac.authorization.k8s.io") or (.objectRef.resource | IN("serviceaccounts", "certificatesigningrequests")))))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_5 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND (impersonateduser.username IS NOT NULL
    OR ((apigroup = 'rbac.authorization.k8s.io' OR resource IN ('serviceaccounts', 'certificatesigningrequests'))
      AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')));

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_5 AS SELECT * FROM pci_10_2_1_5;
