-- Small files into large ones: see compaction.md. For Athena; replace the bucket,
-- the prefixes, the cluster and the days, and run one statement at a time.

-- 1. Where the large files go: a prefix of its own, the same columns (table.sql).
CREATE TABLE audit_compacted
WITH (
  external_location = 's3://my-audit-archive/k8s-audit-compacted/',
  format = 'PARQUET',
  write_compression = 'ZSTD',
  partitioned_by = ARRAY['cluster', 'dt']
) AS
SELECT * FROM audit
WHERE cluster = 'prod-1' AND dt = '2026-10-01'
ORDER BY stagetimestamp;

-- 2. Further days, one statement each; a hundred partitions at most in one.
INSERT INTO audit_compacted
SELECT * FROM audit
WHERE cluster = 'prod-1' AND dt = '2026-10-02'
ORDER BY stagetimestamp;

-- 3. Proof of equality: no rows is the wanted result. The checksum is of every
-- column of every row and does not depend on their order.
SELECT coalesce(a.dt, b.dt) AS dt, a.events AS events, b.events AS compacted, a.digest = b.digest AS equal
FROM (
  SELECT dt, count(*) AS events, checksum(ROW(auditid, stage, level, recordedlevel, verb, requestreceivedtimestamp, stagetimestamp,
    receivedtimestamp, requesturi, userinfo, impersonateduser, authenticationmetadata, sourceips, useragent, objectref, responsestatus,
    requestobject, responseobject, annotations, decision, decisionreason, otherfields, source, policyrule, policydigest, redactions)) AS digest
  FROM audit WHERE cluster = 'prod-1' AND dt BETWEEN '2026-10-01' AND '2026-10-31' GROUP BY dt
) AS a
FULL OUTER JOIN (
  SELECT dt, count(*) AS events, checksum(ROW(auditid, stage, level, recordedlevel, verb, requestreceivedtimestamp, stagetimestamp,
    receivedtimestamp, requesturi, userinfo, impersonateduser, authenticationmetadata, sourceips, useragent, objectref, responsestatus,
    requestobject, responseobject, annotations, decision, decisionreason, otherfields, source, policyrule, policydigest, redactions)) AS digest
  FROM audit_compacted WHERE cluster = 'prod-1' AND dt BETWEEN '2026-10-01' AND '2026-10-31' GROUP BY dt
) AS b ON a.dt = b.dt
WHERE a.events IS NULL OR b.events IS NULL OR a.events <> b.events OR a.digest <> b.digest;
