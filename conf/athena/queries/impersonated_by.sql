-- Who acted as this user: the other direction of impersonation.sql.
-- Policy: complete at Metadata. Policies match the original user.
-- Cost: metadata only.
-- jq: requests[] | select(.impersonatedUser.username == "bob@example.com")
--     | {username: .user.username, verb, resource: ref(.resource), code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, username, verb, resource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND effectiveuser = 'bob@example.com'
  AND username <> effectiveuser
ORDER BY stagetimestamp;
