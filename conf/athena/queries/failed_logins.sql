-- Requests whose credentials were not accepted (401), by address. There is no
-- user in them, and their last stage is ResponseStarted: a policy that omits that
-- stage, or keeps only named users, has none of them.
-- Policy: see above. TLS handshakes that fail never become events.
-- Cost: metadata only.
-- jq: [requests[] | select((.user.username // "") == "" or .responseStatus.code == 401)]
--     | group_by([.sourceIPs[-1], .userAgent // "", .requestURI])[]
--     | {peerip: .[0].sourceIPs[-1], useragent: (.[0].userAgent // ""), requesturi: .[0].requestURI, requests: length}
SELECT peerip, useragent, requesturi, count(*) AS requests, min(stagetimestamp) AS first, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND (code = 401 OR username = '')
GROUP BY peerip, useragent, requesturi
ORDER BY requests DESC, peerip, useragent, requesturi;
