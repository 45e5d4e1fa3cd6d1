-- Silence: per source, spans of more than an hour between one event and the next.
-- An API server always has something to record, so a gap is one in the trail,
-- unless the policy keeps very little. Silence before the first and after the
-- last event of the window shows as first and last in sources.sql.
-- Policy: the less is recorded, the less a gap means.
-- Cost: metadata only.
-- jq: group_by(.source)[] | sort_by(.stageTimestamp) | [.[:-1], .[1:]] | transpose[]
--     | select((.[1].stageTimestamp | seconds) - (.[0].stageTimestamp | seconds) > 3600)
--     | {source: .[0].source, minutes: (((.[1].stageTimestamp | seconds) - (.[0].stageTimestamp | seconds)) / 60 | floor)}
SELECT source, before AS "from", stagetimestamp AS "to", CAST(floor(CAST(date_diff('second', before, stagetimestamp) AS double) / 60) AS bigint) AS minutes
FROM (
  SELECT source, stagetimestamp, lag(stagetimestamp) OVER (PARTITION BY source ORDER BY stagetimestamp) AS before
  FROM audit
  WHERE cluster = 'prod-1'
    AND dt BETWEEN '2026-11-01' AND '2026-11-07'
    AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
    AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
) AS steps
WHERE date_diff('second', before, stagetimestamp) > 3600
ORDER BY source, stagetimestamp;
