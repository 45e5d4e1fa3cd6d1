-- The table, for Amazon Athena (engine version 3). Replace the bucket, the prefix,
-- the first day of the archive and the names of the clusters; then run it once.
--
-- Partitions are projected: Athena computes their folders from the values below
-- and never asks a catalog, so nothing has to be registered when a day begins.
-- What lies outside of the projected values is not an error: it is silently not
-- found. Hence
--   projection.dt.range         begins with the first day of the archive, and ends
--                               tomorrow: events of a clock that is ahead by less
--                               than a day are filed under their own day.
--   projection.cluster.values   names every cluster that writes here.
--
-- Beyond a few dozen clusters, replace the two projection.cluster lines by
--   'projection.cluster.type' = 'injected'
-- Athena then takes the names from the query, and refuses one that has not
-- cluster = '…' or cluster IN ('…') with literals. No list to keep, and no query
-- over all clusters at once.
--
-- A query without a condition on dt looks into every day of the range.
--
-- The columns are generated from the code that writes the files: make generate.
CREATE EXTERNAL TABLE IF NOT EXISTS audit (
)
PARTITIONED BY (cluster string, dt string)
STORED AS PARQUET
LOCATION 's3://my-audit-archive/k8s-audit/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.cluster.type' = 'enum',
  'projection.cluster.values' = 'prod-1,prod-2',
  'projection.dt.type' = 'date',
  'projection.dt.format' = 'yyyy-MM-dd',
  'projection.dt.range' = '2026-01-01,NOW+1DAY',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://my-audit-archive/k8s-audit/cluster=${cluster}/dt=${dt}/'
)
