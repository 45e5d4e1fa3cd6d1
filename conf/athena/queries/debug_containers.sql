-- Debug containers put into running pods (kubectl debug), with image and command.
-- kubectl debug node/… makes a pod instead: privileged_pods.sql and
-- host_access.sql show that one.
-- Policy: that it happened, at Metadata; image and command, at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(.objectRef.subresource == "ephemeralcontainers")
--     | {effectiveuser: who, verb, namespace: .objectRef.namespace, pod: .objectRef.name, code: .responseStatus.code,
--        containers: (.requestObject.spec.ephemeralContainers | json), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, verb, namespace, name AS pod, code,
  nullif(json_format(json_extract(requestobject, '$.spec.ephemeralContainers')), 'null') AS containers, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND subresource = 'ephemeralcontainers'
ORDER BY stagetimestamp;
