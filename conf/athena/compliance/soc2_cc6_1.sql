-- Access to protected assets: what was refused or not logged in, and every
-- request for Secrets.
-- Control: SOC 2 CC6.1, logical access security over protected information assets.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(((.responseStatus.code | IN(401, 403)) or (.user.username // "") == "") or .objectRef.resource == "secrets")
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc6_1 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE code IN (401, 403) OR username = ''
   OR resource = 'secrets';
