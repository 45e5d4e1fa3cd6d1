-- Hours in which a user asked much more of a resource than in its usual hour: at
-- least 100 requests, and ten times its median hour or more. A first hour counts
-- as ten times nothing.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: [requests | group_by([who, .objectRef.resource // "", .stageTimestamp[:13]])[] | {user: (.[0] | who), resource: (.[0] | ref(.resource)), hour: .[0].stageTimestamp[:13], requests: length}]
--     | group_by([.user, .resource])[] | median(map(.requests)) as $usual | length as $hours | .[]
--     | select(.requests >= 100 and ($hours == 1 or .requests >= 10 * $usual)) | {effectiveuser: .user, resource, requests}
WITH hours AS (
  SELECT effectiveuser, coalesce(resource, '') AS resource, date_trunc('hour', stagetimestamp) AS hour, count(*) AS requests
  FROM requests
  WHERE cluster = 'prod-1'
    AND dt BETWEEN '2026-11-01' AND '2026-11-07'
    AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
    AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  GROUP BY effectiveuser, coalesce(resource, ''), date_trunc('hour', stagetimestamp)
), ranked AS (
  SELECT effectiveuser, resource, hour, requests,
    row_number() OVER (PARTITION BY effectiveuser, resource ORDER BY requests, hour) AS place,
    count(*) OVER (PARTITION BY effectiveuser, resource) AS hours
  FROM hours
), usual AS (
  -- The median, the lower of two in the middle.
  SELECT effectiveuser, resource, requests AS usual, hours FROM ranked WHERE place * 2 IN (hours, hours + 1)
)
SELECT h.hour, h.effectiveuser, h.resource, h.requests, u.usual, u.hours
FROM hours h
JOIN usual u ON u.effectiveuser = h.effectiveuser AND u.resource = h.resource
WHERE h.requests >= 100 AND (u.hours = 1 OR h.requests >= 10 * u.usual)
ORDER BY h.requests DESC, h.hour;
