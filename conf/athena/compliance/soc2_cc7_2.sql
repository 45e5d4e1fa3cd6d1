-- What a monitoring looks at: failed logins, refusals, anonymous requests that were
-- allowed, sessions into containers, errors and panics of the API server.
-- Control: SOC 2 CC7.2, anomalies are monitored and evaluated.
-- Policy: complete at Metadata; a policy that drops anonymous or refused requests hides them.
-- Cost: metadata only.
-- jq: requests[] | select(((.responseStatus.code | IN(401, 403)) or (.user.username // "") == "") or (.responseStatus.code // 0) >= 500 or .stage == "Panic"
--        or (.user.username == "system:anonymous" and .annotations["authorization.k8s.io/decision"] == "allow")
--        or (.objectRef.subresource | IN("exec", "attach", "portforward", "ephemeralcontainers", "proxy")))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc7_2 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE code IN (401, 403) OR username = ''
   OR code >= 500
   OR stage = 'Panic'
   OR (username = 'system:anonymous' AND decision = 'allow')
   OR subresource IN ('exec', 'attach', 'portforward', 'ephemeralcontainers', 'proxy');
