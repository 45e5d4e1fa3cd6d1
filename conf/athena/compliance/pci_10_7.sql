-- Signs that the trail itself failed, by day and source: hours without a single
-- event, how late events came in, panics and errors. A day that has no row at all
-- had no event at all.
-- Control: PCI DSS v4.0.1 10.7, failures of critical security control systems are
--     detected and responded to.
-- Policy: the less is recorded, the less a silent hour means.
-- Cost: metadata only.
-- jq: [.[] | . + {dt: .stageTimestamp[:10]}] | group_by([.dt, .source])[]
--     | {dt: .[0].dt, source: .[0].source, events: length, silent_hours: (24 - ([.[].stageTimestamp[:13]] | unique | length))}
CREATE OR REPLACE VIEW pci_10_7 AS
SELECT cluster, dt, source, min(stagetimestamp) AS stagetimestamp, max(stagetimestamp) AS last, count(*) AS events,
  24 - count(DISTINCT date_trunc('hour', stagetimestamp)) AS silent_hours,
  max(date_diff('second', stagetimestamp, receivedtimestamp)) AS most_seconds_late,
  count_if(stage = 'Panic') AS panics, count_if(responsestatus.code >= 500) AS server_errors
FROM audit
GROUP BY cluster, dt, source;
