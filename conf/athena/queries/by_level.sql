-- Events by level and stage as the API server recorded them, how many of them the
-- policy here lowered, and how many values were redacted.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: group_by([.level, .stage])[] | {recordedlevel: .[0].level, stage: .[0].stage, events: length}
SELECT recordedlevel, stage, count(*) AS events, count_if(level <> recordedlevel) AS lowered, sum(redactions) AS redactions
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY recordedlevel, stage
ORDER BY events DESC, recordedlevel, stage;
