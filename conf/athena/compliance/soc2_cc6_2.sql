-- Credentials issued and withdrawn: service accounts, their tokens, certificate
-- signing requests.
-- Control: SOC 2 CC6.2, credentials are issued to authorized users and removed.
--     People come from an identity provider: its log is the other half.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not))
--     | select(.objectRef.resource | IN("serviceaccounts", "certificatesigningrequests"))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc6_2 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE resource IN ('serviceaccounts', 'certificatesigningrequests')
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=');
