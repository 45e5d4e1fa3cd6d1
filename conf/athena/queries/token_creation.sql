-- Service account tokens that were issued (TokenRequest), and long-lived ones
-- made as Secrets of type kubernetes.io/service-account-token. credentialid in
-- later events names the token that was used (JTI=…).
-- Policy: TokenRequests at Metadata; the Secrets' type is in their bodies, which
-- no policy should record.
-- Cost: reads requestobject of Secrets.
-- jq: requests[] | select(succeeded) | select(.verb == "create")
--     | select((.objectRef.resource == "serviceaccounts" and .objectRef.subresource == "token")
--         or (.objectRef.resource == "secrets" and .requestObject.type? == "kubernetes.io/service-account-token"))
--     | {effectiveuser: who, resource: .objectRef.resource, namespace: .objectRef.namespace, name: (.objectRef.name // ""), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, resource, namespace, name,
  json_format(json_extract(requestobject, '$.spec.audiences')) AS audiences,
  json_extract_scalar(requestobject, '$.spec.expirationSeconds') AS expirationseconds,
  json_extract_scalar(requestobject, '$.spec.boundObjectRef.name') AS boundto, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND verb = 'create'
  AND code < 400
  AND ((resource = 'serviceaccounts' AND subresource = 'token')
    OR (resource = 'secrets' AND json_extract_scalar(requestobject, '$.type') = 'kubernetes.io/service-account-token'))
ORDER BY stagetimestamp;
