-- Changes of roles and of who has them.
-- Control: SOC 2 CC6.3, access is given, changed and removed by role and least privilege.
-- Policy: complete at Metadata; what was granted is in the bodies, at Request.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not)) | select(.objectRef.apiGroup == "rbac.authorization.k8s.io")
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc6_3 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE apigroup = 'rbac.authorization.k8s.io'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=');
