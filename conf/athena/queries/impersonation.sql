-- Who acted as somebody else: username is who logged in, effectiveuser whom they
-- acted as. For the other direction, who acted as a given user, filter on
-- effectiveuser: impersonated_by.sql.
-- Policy: complete at Metadata. Policies match the original user.
-- Cost: metadata only.
-- jq: requests[] | select(.impersonatedUser != null)
--     | {username: .user.username, effectiveuser: who, verb, resource: ref(.resource), code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, username, effectiveuser, array_join(impersonateduser.groups, ',') AS impersonatedgroups,
  verb, resource, namespace, name, code, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND impersonateduser.username IS NOT NULL
ORDER BY stagetimestamp;
