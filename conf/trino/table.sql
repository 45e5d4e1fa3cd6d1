-- The table, for Trino's Hive connector with hive.partition-projection-enabled and
-- any metastore, a folder on disk included. See ../athena/table.sql for what the
-- projection means; the columns are generated (make generate); views and queries are those in ../athena.
CREATE TABLE IF NOT EXISTS audit (
  cluster varchar WITH (partition_projection_type = 'enum', partition_projection_values = ARRAY['prod-1', 'prod-2']),
  dt varchar WITH (
    partition_projection_type = 'date',
    partition_projection_format = 'yyyy-MM-dd',
    partition_projection_range = ARRAY['2026-01-01', 'NOW+1DAY'],
    partition_projection_interval = 1,
    partition_projection_interval_unit = 'DAYS')
)
WITH (
  external_location = 's3://my-audit-archive/k8s-audit/',
  format = 'PARQUET',
  partitioned_by = ARRAY['cluster', 'dt'],
  partition_projection_enabled = true,
  partition_projection_location_template = 's3://my-audit-archive/k8s-audit/cluster=${cluster}/dt=${dt}/'
)
