-- Per source and hour: events, and how long they took from the API server to the
-- spool. An hour that is missing here is silence; a delay that grows is a backlog
-- or a clock that is wrong.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: group_by([.source, .stageTimestamp[:13]])[] | {source: .[0].source, events: length}
SELECT source, date_trunc('hour', stagetimestamp) AS hour, count(*) AS events,
  min(stagetimestamp) AS first, max(stagetimestamp) AS last,
  max(date_diff('second', stagetimestamp, receivedtimestamp)) AS delay
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY source, date_trunc('hour', stagetimestamp)
ORDER BY hour, source;
