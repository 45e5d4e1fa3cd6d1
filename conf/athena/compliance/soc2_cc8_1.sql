-- Changes: everything that was created, changed or deleted, but Leases, Events and
-- status, which nobody decides.
-- Control: SOC 2 CC8.1, changes are authorized, tested and approved: these rows against the
--     tickets and commits that asked for them.
-- Policy: complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(change and succeeded and (dryrun | not))
--     | select((.objectRef.resource // "") | IN("leases", "events") | not) | select((.objectRef.subresource // "") != "status")
--     | {username: (.user.username // ""), effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
CREATE OR REPLACE VIEW soc2_cc8_1 AS
SELECT cluster, dt, stagetimestamp, username, effectiveuser, usertype, verb, apigroup, resource, subresource, namespace, name,
  code, decision, decisionreason, peerip, useragent, requesturi, auditid
FROM requests
WHERE verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
  AND resource NOT IN ('leases', 'events')
  AND subresource <> 'status';
