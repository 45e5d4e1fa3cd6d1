-- Requests at which the API server itself panicked: stage Panic, code 500.
-- Policy: complete at Metadata; a policy may omit the stage Panic.
-- Cost: metadata only.
-- jq: requests[] | select(.stage == "Panic") | {effectiveuser: who, verb, requesturi: .requestURI, code: .responseStatus.code, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, verb, requesturi, code, responsestatus.message AS message, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND stage = 'Panic'
ORDER BY stagetimestamp;
