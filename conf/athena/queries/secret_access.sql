-- Who read Secrets. A list or a watch hands over every Secret it covers, with
-- its data, so those count as much as a get. Watches are taken from their start:
-- they may stay open for hours.
-- Policy: complete where secrets are recorded at Metadata for all users; reads by
-- the API server itself and some controllers are often left out.
-- Cost: metadata only.
-- jq: [.[] | select(.objectRef.resource == "secrets") | select(.verb | IN("get", "list", "watch")) | select(succeeded)
--      | select((.verb == "watch" and .stage == "ResponseStarted") or (.verb != "watch" and .stage == "ResponseComplete"))]
--     | unique_by(identity)[]
--     | {effectiveuser: who, verb, namespace: ref(.namespace), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
SELECT DISTINCT stagetimestamp, coalesce(impersonateduser.username, userinfo.username) AS effectiveuser,
  verb, objectref.namespace AS namespace, objectref.name AS name, responsestatus.code AS code,
  element_at(sourceips, -1) AS peerip, useragent, auditid
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND objectref.resource = 'secrets'
  AND responsestatus.code < 400
  AND ((verb IN ('get', 'list') AND stage = 'ResponseComplete') OR (verb = 'watch' AND stage = 'ResponseStarted'))
ORDER BY stagetimestamp;
