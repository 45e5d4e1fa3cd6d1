-- Sessions into containers: exec, attach and port-forward, with the command.
-- A session is one row from its start on, whether or not it has ended: success
-- is code 101, and ended is NULL while it is open. A websocket client makes it a
-- get, an older one a create; kubectl exec -c names the container in the URI.
-- Policy: complete wherever these subresources are recorded at Metadata.
-- Cost: metadata only.
-- jq: map(select(.objectRef.subresource | IN("exec", "attach", "portforward")) | select(.stage != "RequestReceived"))
--     | group_by([.auditID, .requestReceivedTimestamp, .requestURI, .user.username])[]
--     | {effectiveuser: .[0] | who, verb: .[0].verb, subresource: .[0].objectRef.subresource,
--        namespace: .[0].objectRef.namespace, pod: .[0].objectRef.name, code: map(.responseStatus.code) | max,
--        command: [.[0].requestURI | scan("[?&]command=([^&]*)")[0]] | join(" "), auditid: .[0].auditID}
SELECT
  min(stagetimestamp) AS started,
  max(CASE WHEN stage <> 'ResponseStarted' THEN stagetimestamp END) AS ended,
  coalesce(impersonateduser.username, userinfo.username) AS effectiveuser,
  verb, objectref.subresource AS subresource, objectref.namespace AS namespace, objectref.name AS pod,
  max(responsestatus.code) AS code,
  array_join(regexp_extract_all(requesturi, '[?&]command=([^&]*)', 1), ' ') AS command,
  max(element_at(sourceips, -1)) AS peerip, auditid
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND objectref.subresource IN ('exec', 'attach', 'portforward')
  AND stage <> 'RequestReceived'
GROUP BY auditid, requestreceivedtimestamp, requesturi, userinfo.username,
  coalesce(impersonateduser.username, userinfo.username), verb,
  objectref.subresource, objectref.namespace, objectref.name
ORDER BY started;
