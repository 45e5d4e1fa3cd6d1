-- Changes to what protects the cluster: admission, aggregated APIs, custom
-- resources, network policies, nodes, runtime and priority classes.
-- Control: SOC 2 CC7.1, changes to configurations that introduce vulnerabilities are detected.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not)) | select((.objectRef.subresource // "") != "status")
--     | select((.objectRef.apiGroup | IN("admissionregistration.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io", "flowcontrol.apiserver.k8s.io"))
--        or (.objectRef.resource | IN("networkpolicies", "nodes", "runtimeclasses", "priorityclasses")))
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc7_1 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE (apigroup IN ('admissionregistration.k8s.io', 'apiregistration.k8s.io', 'apiextensions.k8s.io', 'flowcontrol.apiserver.k8s.io')
    OR resource IN ('networkpolicies', 'nodes', 'runtimeclasses', 'priorityclasses'))
  AND subresource <> 'status'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=');
