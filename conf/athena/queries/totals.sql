-- The size of it: events, requests, users, addresses.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: {events: length, requests: (requests | length), users: (map(who) | unique | length), peers: ([.[].sourceIPs[-1]] | unique | length)}
SELECT
  (SELECT count(*) FROM audit
    WHERE cluster = 'prod-1'
      AND dt BETWEEN '2026-11-01' AND '2026-11-07'
      AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
      AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00') AS events,
  count(*) AS requests, count(DISTINCT effectiveuser) AS users, count(DISTINCT peerip) AS peers,
  count_if(code >= 400) AS failed, min(stagetimestamp) AS first, max(stagetimestamp) AS last
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00';
