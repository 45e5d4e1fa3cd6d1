-- The table, for Trino's Hive connector with hive.partition-projection-enabled and
-- any metastore, a folder on disk included. See ../athena/table.sql for what the
-- projection means; the columns are generated (make generate); views and queries are those in ../athena.
CREATE TABLE IF NOT EXISTS audit (
  auditid varchar COMMENT 'auditID. Clients may choose it: it does not identify an event',
  stage varchar COMMENT 'RequestReceived, ResponseStarted, ResponseComplete or Panic',
  level varchar COMMENT 'what is archived: the lowest of recorded, policy and redaction',
  recordedlevel varchar COMMENT 'the level that the API server recorded',
  verb varchar COMMENT 'Kubernetes verb, or the HTTP method in lower case',
  requestreceivedtimestamp timestamp(3) COMMENT 'when the request reached the API server, UTC',
  stagetimestamp timestamp(3) COMMENT 'when this stage was reached, UTC, decides dt',
  receivedtimestamp timestamp(3) COMMENT 'when this plugin took the event, UTC',
  requesturi varchar COMMENT 'path and query as sent, after redaction',
  userinfo row(username varchar, uid varchar, groups array(varchar), extra map(varchar, array(varchar))) COMMENT 'who logged in, username is empty if nobody did',
  impersonateduser row(username varchar, uid varchar, groups array(varchar), extra map(varchar, array(varchar))) COMMENT 'whom they acted as, or NULL',
  authenticationmetadata row(impersonationconstraint varchar) COMMENT 'constraints of the authentication (from 1.35 on), or NULL',
  sourceips array(varchar) COMMENT 'client addresses, the last is the peer, the others are its own word',
  useragent varchar COMMENT 'User-Agent, the word of the client',
  objectref row(resource varchar, namespace varchar, name varchar, uid varchar, apigroup varchar, apiversion varchar, resourceversion varchar, subresource varchar) COMMENT 'what the request was about, or NULL',
  responsestatus row(code integer, status varchar, reason varchar, message varchar, details varchar) COMMENT 'the answer, code is the HTTP status',
  requestobject varchar COMMENT 'JSON text of the request, after redaction, NULL below Request',
  responseobject varchar COMMENT 'JSON text of the response, after redaction, NULL below RequestResponse',
  annotations map(varchar, varchar) COMMENT 'of the API server and its plugins',
  decision varchar COMMENT 'allow or forbid, from annotations',
  decisionreason varchar COMMENT 'which role or rule decided, from annotations',
  otherfields varchar COMMENT 'JSON text of top-level fields that this version does not know',
  source varchar COMMENT 'the tag in Fluent Bit: which way the event came in',
  policyrule integer COMMENT 'index, from 0, of the policy rule that decided, NULL without a policy',
  policydigest varchar COMMENT 'first 16 hex digits of the SHA-256 of the policy in force, under _policy/',
  redactions integer COMMENT 'values replaced in this event',
  cluster varchar WITH (partition_projection_type = 'enum', partition_projection_values = ARRAY['prod-1', 'prod-2']),
  dt varchar WITH (
    partition_projection_type = 'date',
    partition_projection_format = 'yyyy-MM-dd',
    partition_projection_range = ARRAY['2025-01-01', 'NOW+1DAY'],
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
