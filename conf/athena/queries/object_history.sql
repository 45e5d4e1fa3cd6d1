-- The life of one object, its subresources included. An object made with
-- generateName has no name in the request that made it: the name is then only in
-- the answer, so that is searched too.
-- Policy: at Metadata all but a creation with generateName; that at
-- RequestResponse.
-- Cost: reads responseobject of creations without a name. Leave the last
-- condition out, and it is metadata only.
-- jq: requests[] | select(.objectRef.resource == "pods" and .objectRef.namespace == "payments")
--     | select(.objectRef.name == "ledger-x7k2p" or ((.objectRef.name // "") == "" and .verb == "create" and .responseObject.metadata.name? == "ledger-x7k2p"))
--     | {effectiveuser: who, verb, subresource: ref(.subresource), code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, subresource, code, level, requestobject, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource = 'pods'
  AND namespace = 'payments'
  AND (name = 'ledger-x7k2p'
    OR (name = '' AND verb = 'create' AND json_extract_scalar(responseobject, '$.metadata.name') = 'ledger-x7k2p'))
ORDER BY stagetimestamp;
