-- Who tried to act as somebody else and was refused. The API server refuses
-- before it sets impersonatedUser, so the wanted identity is only in the message.
-- Policy: needs the 403s of whatever was asked for; complete at Metadata.
-- Cost: metadata only.
-- jq: requests[] | select(.responseStatus.code == 403) | select(.responseStatus.message // "" | test("cannot impersonate resource"))
--     | {username: .user.username, wanted: (.responseStatus.message | capture("^[^\"]*\"(?<n>[^\"]*)\" is forbidden").n), auditid: .auditID}
SELECT stagetimestamp, username, verb, requesturi,
  regexp_extract(responsestatus.message, '^[^"]*"([^"]*)" is forbidden', 1) AS wanted,
  responsestatus.message AS message, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND code = 403
  AND responsestatus.message LIKE '%cannot impersonate resource%'
ORDER BY stagetimestamp;
