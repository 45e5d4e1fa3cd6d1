-- The table, for DuckDB over a copy of the archive on disk or, with its extension
-- httpfs and credentials (CREATE SECRET), over S3 itself. Replace the path. Run
-- functions.sql first, then this, then ../athena/views.sql; after that the queries
-- of ../athena/queries run as they are.
--
-- union_by_name lets files with and without a later column be one table.
CREATE OR REPLACE VIEW audit AS
SELECT * FROM read_parquet('s3://my-audit-archive/k8s-audit/cluster=*/dt=*/*.parquet',
  hive_partitioning = true, hive_types_autocast = false, union_by_name = true);
