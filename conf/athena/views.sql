-- The views that the queries in queries/ and compliance/ start from. Run it once
-- after table.sql, statement by statement (Athena takes one at a time). The same
-- text runs in Athena, Trino and DuckDB.

-- requests: one row per request, which is what most questions are about.
--
-- An API request leaves up to four events. Taken are ResponseComplete and Panic,
-- and ResponseStarted where the username is empty: a failed login has no later
-- stage. Sessions that are still open (watch, exec) are not in it; queries that
-- want those read audit.
--
-- A batch that the API server repeats to another replica is archived twice. Such
-- repeats are collapsed over audit ID, stage, both of the API server's times,
-- URI, user and status code. Never over the audit ID alone: clients choose it.
--
-- The further columns in PARTITION BY follow from these. They stand there because
-- an engine pushes a filter below a window only if it is on such a column: without
-- them a filter on resource or verb would read every row group.
CREATE OR REPLACE VIEW requests AS
SELECT
  cluster, dt, auditid, stage, level, recordedlevel, verb,
  requestreceivedtimestamp, stagetimestamp, receivedtimestamp, requesturi,
  username, effectiveuser, usertype, credentialid, peerip, useragent,
  apigroup, resource, subresource, namespace, name, code,
  CAST(date_diff('millisecond', requestreceivedtimestamp, stagetimestamp) AS double) / 1000 AS duration,
  decision, decisionreason, requestobject, responseobject,
  userinfo, impersonateduser, authenticationmetadata, sourceips, objectref, responsestatus,
  annotations, otherfields, source, policyrule, policydigest, redactions
FROM (
  SELECT *,
    -- Who acted in the end: the impersonated user where there is one. The
    -- authorizer decided on this name; username is who logged in.
    coalesce(impersonateduser.username, userinfo.username) AS effectiveuser,
    CASE
      WHEN coalesce(impersonateduser.username, userinfo.username) IN ('', 'system:anonymous') THEN 'anonymous'
      WHEN coalesce(impersonateduser.username, userinfo.username) LIKE 'system:serviceaccount:%' THEN 'service account'
      WHEN coalesce(impersonateduser.username, userinfo.username) LIKE 'system:node:%' THEN 'node'
      WHEN coalesce(impersonateduser.username, userinfo.username) LIKE 'system:%' THEN 'system'
      ELSE 'human'
    END AS usertype,
    element_at(element_at(userinfo.extra, 'authentication.kubernetes.io/credential-id'), 1) AS credentialid,
    -- The last address is the peer that the API server saw; those before it are
    -- what the client wrote into X-Forwarded-For.
    element_at(sourceips, -1) AS peerip,
    row_number() OVER (
      PARTITION BY cluster, dt, auditid, stage, requestreceivedtimestamp, stagetimestamp,
        requesturi, username, code, verb, decision, apigroup, resource, subresource, namespace, name
      ORDER BY receivedtimestamp) AS repeat
  FROM (
    SELECT *,
      userinfo.username AS username, responsestatus.code AS code,
      -- As they are, so NULL where the request is about no object (/healthz): a
      -- coalesce would keep an engine from skipping row groups by them.
      objectref.apigroup AS apigroup, objectref.resource AS resource, objectref.subresource AS subresource,
      objectref.namespace AS namespace, objectref.name AS name
    FROM audit
    WHERE stage IN ('ResponseComplete', 'Panic')
       OR (stage = 'ResponseStarted' AND userinfo.username = '')
  ) AS taken
) AS numbered
WHERE repeat = 1;

-- events: every archived event at every stage, repeats included, with nothing but
-- plain columns: for BI tools that know no structs, lists and maps.
CREATE OR REPLACE VIEW events AS
SELECT
  cluster, dt, auditid, stage, level, recordedlevel, verb,
  requestreceivedtimestamp, stagetimestamp, receivedtimestamp, requesturi,
  userinfo.username AS username, userinfo.uid AS useruid,
  array_join(userinfo.groups, ',') AS usergroups,
  json_format(CAST(userinfo.extra AS json)) AS userextra,
  impersonateduser.username AS impersonatedusername, impersonateduser.uid AS impersonateduseruid,
  array_join(impersonateduser.groups, ',') AS impersonatedusergroups,
  authenticationmetadata.impersonationconstraint AS impersonationconstraint,
  array_join(sourceips, ',') AS sourceips, useragent,
  objectref.resource AS resource, objectref.namespace AS namespace, objectref.name AS name,
  objectref.uid AS objectuid, objectref.apigroup AS apigroup, objectref.apiversion AS apiversion,
  objectref.resourceversion AS resourceversion, objectref.subresource AS subresource,
  responsestatus.code AS code, responsestatus.status AS status, responsestatus.reason AS reason,
  responsestatus.message AS message, responsestatus.details AS details,
  decision, decisionreason, json_format(CAST(annotations AS json)) AS annotations,
  requestobject, responseobject, otherfields, source, policyrule, policydigest, redactions
FROM audit;

-- ocsf_api_activity: requests as OCSF 1.3 class 6003 (API Activity), for those
-- whose queries were written for Amazon Security Lake.
CREATE OR REPLACE VIEW ocsf_api_activity AS
SELECT
  cluster, dt,
  6 AS category_uid, 'Application Activity' AS category_name,
  6003 AS class_uid, 'API Activity' AS class_name,
  activity_id, 600300 + activity_id AS type_uid,
  CASE activity_id WHEN 1 THEN 'Create' WHEN 2 THEN 'Read' WHEN 3 THEN 'Update' WHEN 4 THEN 'Delete' ELSE 'Other' END AS activity_name,
  1 AS severity_id, 'Informational' AS severity,
  requestreceivedtimestamp AS start_time_dt, stagetimestamp AS time_dt, stagetimestamp AS end_time_dt,
  CASE WHEN code IS NULL THEN 0 WHEN code < 400 THEN 1 ELSE 2 END AS status_id,
  CASE WHEN code IS NULL THEN 'Unknown' WHEN code < 400 THEN 'Success' ELSE 'Failure' END AS status,
  CAST(code AS varchar) AS status_code, responsestatus.message AS status_detail,
  CAST(ROW(auditid, '1.3.0', ROW('Kubernetes', 'kube-apiserver')) AS ROW(uid varchar, version varchar, product ROW(vendor_name varchar, name varchar))) AS metadata,
  CAST(ROW(verb, ROW(auditid), ROW(code, responsestatus.reason), ROW(CASE WHEN apigroup = '' THEN 'core' ELSE apigroup END), objectref.apiversion)
    AS ROW(operation varchar, request ROW(uid varchar), response ROW(code integer, error varchar), service ROW(name varchar), version varchar)) AS api,
  CAST(ROW(ROW(username, userinfo.uid, credentialid,
      CASE WHEN username IN ('', 'system:anonymous') THEN 0 WHEN username LIKE 'system:%' THEN 3 ELSE 1 END))
    AS ROW("user" ROW(name varchar, uid varchar, credential_uid varchar, type_id integer))) AS actor,
  impersonateduser.username AS impersonated_user_name,
  CAST(ROW(peerip) AS ROW(ip varchar)) AS src_endpoint,
  CAST(ROW(useragent, ROW(requesturi)) AS ROW(user_agent varchar, url ROW(path varchar))) AS http_request,
  ARRAY[CAST(ROW(name, resource, namespace, objectref.uid, cluster) AS ROW(name varchar, type varchar, namespace varchar, uid varchar, cluster_name varchar))] AS resources,
  decision AS disposition, decisionreason AS policy_desc
FROM (
  SELECT *,
    CASE
      WHEN verb IN ('create', 'post') THEN 1
      WHEN verb IN ('get', 'list', 'watch', 'head') THEN 2
      WHEN verb IN ('update', 'patch', 'put') THEN 3
      WHEN verb IN ('delete', 'deletecollection') THEN 4
      ELSE 99
    END AS activity_id
  FROM requests
) AS activity;
