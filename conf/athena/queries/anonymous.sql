-- Requests without credentials that were served or refused as system:anonymous.
-- Health checks are most of them; anything else that is allowed wants a look.
-- Policy: shipped policies drop anonymous reads of health endpoints.
-- Cost: metadata only.
-- jq: [requests[] | select(.user.username == "system:anonymous")]
--     | group_by([.verb, .requestURI, .responseStatus.code, .sourceIPs[-1]])[]
--     | {verb: .[0].verb, requesturi: .[0].requestURI, code: .[0].responseStatus.code, peerip: .[0].sourceIPs[-1], requests: length}
SELECT verb, requesturi, code, decision, peerip, count(*) AS requests, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND username = 'system:anonymous'
GROUP BY verb, requesturi, code, decision, peerip
ORDER BY requests DESC, requesturi;
