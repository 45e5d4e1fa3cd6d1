-- Service account tokens that were issued (TokenRequest), and for how long.
-- credentialid in later events names the token that was used (JTI=…). Long-lived
-- tokens made as Secrets cannot be told from other Secrets, since no archive
-- holds the bodies of those: secret_changes.sql shows their creation.
-- Policy: that it happened, at Metadata; audience, duration and pod, at Request,
-- which shipped policies do not record, as the answer is the token.
-- Cost: reads requestobject.
-- jq: requests[] | select(succeeded and .verb == "create" and .objectRef.resource == "serviceaccounts" and .objectRef.subresource == "token")
--     | {effectiveuser: who, namespace: .objectRef.namespace, name: ref(.name), auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, namespace, name,
  nullif(json_format(json_extract(requestobject, '$.spec.audiences')), 'null') AS audiences,
  json_extract_scalar(requestobject, '$.spec.expirationSeconds') AS expirationseconds,
  json_extract_scalar(requestobject, '$.spec.boundObjectRef.name') AS boundto, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND verb = 'create'
  AND code < 400
  AND resource = 'serviceaccounts'
  AND subresource = 'token'
ORDER BY stagetimestamp;
