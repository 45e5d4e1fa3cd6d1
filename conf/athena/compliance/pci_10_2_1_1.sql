-- What people did to get at data: reads of Secrets and ConfigMaps, logs, sessions,
-- proxies. Narrow it to the namespaces that hold cardholder data.
-- Control: PCI DSS v4.0.1 10.2.1.1, all individual user access to cardholder data. Access
--     inside of an application or a database is not seen by an API server.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(who != "" and (who | startswith("system:") | not))
--     | select((.objectRef.resource | IN("secrets", "configmaps")) or (.objectRef.subresource | IN("log", "exec", "attach", "portforward", "ephemeralcontainers", "proxy")))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW pci_10_2_1_1 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE usertype = 'human'
  AND (resource IN ('secrets', 'configmaps')
    OR subresource IN ('log', 'exec', 'attach', 'portforward', 'ephemeralcontainers', 'proxy'));

-- The same control in PCI DSS 3.2.1.
CREATE OR REPLACE VIEW pci_v3_10_2_1 AS SELECT * FROM pci_10_2_1_1;
