-- Everything that one user did, as themselves or as somebody else.
-- Policy: what is recorded at all; system users are often left out of reads.
-- Cost: metadata only.
-- jq: requests[] | select(.user.username == "alice@example.com")
--     | {effectiveuser: who, verb, resource: ref(.resource), name: ref(.name), code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, username, effectiveuser, verb, resource, subresource, namespace, name, code, requesturi, peerip, useragent, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND username = 'alice@example.com'
ORDER BY stagetimestamp;
