-- The table, for Amazon Athena (engine version 3). Replace the bucket, the prefix,
-- the first day of the archive and the names of the clusters; then run it once.
--
-- Partitions are projected: Athena computes their folders from the values below
-- and never asks a catalog, so nothing has to be registered when a day begins.
-- What lies outside of the projected values is not an error: it is silently not
-- found. Hence
--   projection.dt.range         begins 400 days before the first upload, since events
--                               that old when they come in are filed under their own
--                               day, and ends tomorrow, since a clock may be ahead.
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
  auditid string COMMENT 'auditID. Clients may choose it: it does not identify an event',
  stage string COMMENT 'RequestReceived, ResponseStarted, ResponseComplete or Panic',
  level string COMMENT 'what is archived: the lowest of recorded, policy and redaction',
  recordedlevel string COMMENT 'the level that the API server recorded',
  verb string COMMENT 'Kubernetes verb, or the HTTP method in lower case',
  requestreceivedtimestamp timestamp COMMENT 'when the request reached the API server, UTC',
  stagetimestamp timestamp COMMENT 'when this stage was reached, UTC, decides dt',
  receivedtimestamp timestamp COMMENT 'when this plugin took the event, UTC',
  requesturi string COMMENT 'path and query as sent, after redaction',
  userinfo struct<username:string,uid:string,groups:array<string>,extra:map<string,array<string>>> COMMENT 'who logged in, username is empty if nobody did',
  impersonateduser struct<username:string,uid:string,groups:array<string>,extra:map<string,array<string>>> COMMENT 'whom they acted as, or NULL',
  authenticationmetadata struct<impersonationconstraint:string> COMMENT 'constraints of the authentication (from 1.35 on), or NULL',
  sourceips array<string> COMMENT 'client addresses, the last is the peer, the others are its own word',
  useragent string COMMENT 'User-Agent, the word of the client',
  objectref struct<resource:string,namespace:string,name:string,uid:string,apigroup:string,apiversion:string,resourceversion:string,subresource:string> COMMENT 'what the request was about, or NULL',
  responsestatus struct<code:int,status:string,reason:string,message:string,details:string> COMMENT 'the answer, code is the HTTP status',
  requestobject string COMMENT 'JSON text of the request, after redaction, NULL below Request',
  responseobject string COMMENT 'JSON text of the response, after redaction, NULL below RequestResponse',
  annotations map<string,string> COMMENT 'of the API server and its plugins',
  decision string COMMENT 'allow or forbid, from annotations',
  decisionreason string COMMENT 'which role or rule decided, from annotations',
  otherfields string COMMENT 'JSON text of top-level fields that this version does not know',
  source string COMMENT 'the tag in Fluent Bit: which way the event came in',
  policyrule int COMMENT 'index, from 0, of the policy rule that decided, NULL without a policy',
  policydigest string COMMENT 'first 16 hex digits of the SHA-256 of the policy in force, under _policy/',
  redactions int COMMENT 'values replaced in this event'
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
  'projection.dt.range' = '2025-01-01,NOW+1DAY',
  'projection.dt.interval' = '1',
  'projection.dt.interval.unit' = 'DAYS',
  'storage.location.template' = 's3://my-audit-archive/k8s-audit/cluster=${cluster}/dt=${dt}/'
)
