-- What is to be reviewed each day, as counts; the rows are in the views of 10.2.1.
-- Control: PCI DSS v4.0.1 10.4.1, audit logs are reviewed at least once daily.
-- Policy: as of what it counts.
-- Cost: metadata only.
-- jq: [requests[] | . + {dt: .stageTimestamp[:10]}] | group_by(.dt)[] | {dt: .[0].dt, requests: length,
--       invalid_access: count((.responseStatus.code | IN(401, 403)) or (.user.username // "") == ""),
--       sessions: count(.objectRef.subresource | IN("exec", "attach", "portforward", "ephemeralcontainers")),
--       secret_requests: count(.objectRef.resource == "secrets"), impersonated: count(.impersonatedUser != null)}
CREATE OR REPLACE VIEW pci_10_4_1 AS
SELECT cluster, dt, min(stagetimestamp) AS stagetimestamp, count(*) AS requests, count(DISTINCT effectiveuser) AS users,
  count_if(code IN (401, 403) OR username = '') AS invalid_access,
  count_if(contains(userinfo.groups, 'system:masters')) AS by_masters,
  count_if(subresource IN ('exec', 'attach', 'portforward', 'ephemeralcontainers')) AS sessions,
  count_if(resource = 'secrets') AS secret_requests,
  count_if(impersonateduser.username IS NOT NULL) AS impersonated,
  count_if(apigroup = 'rbac.authorization.k8s.io' AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection') AND code < 400) AS rbac_changes,
  count_if(code >= 500) AS server_errors
FROM requests
GROUP BY cluster, dt;
