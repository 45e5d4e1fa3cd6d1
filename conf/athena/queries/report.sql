-- The daily report: one table of what a reviewer looks at first, by day. Each
-- line has its own query beside this one for the rows behind it.
-- Policy: as of the queries that it sums up.
-- Cost: metadata only.
-- jq: requests | group_by(.stageTimestamp[:10])[] | {day: .[0].stageTimestamp[:10], requests: length,
--       users: (map(who) | unique | length), failed_logins: count((.user.username // "") == "" or .responseStatus.code == 401),
--       refused: count(.responseStatus.code == 403), server_errors: count((.responseStatus.code // 0) >= 500),
--       sessions: count((.objectRef.subresource // "") | IN("exec", "attach", "portforward")),
--       secret_reads: count(.objectRef.resource == "secrets" and succeeded and (.verb | IN("get", "list", "watch"))),
--       rbac_changes: count(.objectRef.apiGroup == "rbac.authorization.k8s.io" and change and succeeded and (dryrun | not)),
--       deletions: count((.verb | IN("delete", "deletecollection")) and succeeded and (dryrun | not)),
--       impersonated: count(.impersonatedUser != null), tokens_issued: count(.objectRef.subresource == "token" and .verb == "create" and succeeded),
--       panics: count(.stage == "Panic")}
SELECT
  CAST(CAST(stagetimestamp AS date) AS varchar) AS day,
  count(*) AS requests,
  count(DISTINCT effectiveuser) AS users,
  count(DISTINCT CASE WHEN usertype = 'human' THEN effectiveuser END) AS humans,
  count_if(code = 401 OR username = '') AS failed_logins,
  count_if(code = 403) AS refused,
  count_if(code >= 500) AS server_errors,
  count_if(subresource IN ('exec', 'attach', 'portforward')) AS sessions,
  count_if(resource = 'secrets' AND verb IN ('get', 'list', 'watch') AND code < 400) AS secret_reads,
  count_if(apigroup = 'rbac.authorization.k8s.io' AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
    AND code < 400 AND NOT regexp_like(requesturi, '[?&]dryRun=')) AS rbac_changes,
  count_if(verb IN ('delete', 'deletecollection') AND code < 400 AND NOT regexp_like(requesturi, '[?&]dryRun=')) AS deletions,
  count_if(impersonateduser.username IS NOT NULL) AS impersonated,
  count_if(subresource = 'token' AND verb = 'create' AND code < 400) AS tokens_issued,
  count_if(username = 'system:anonymous' AND decision = 'allow') AS anonymous_allowed,
  count_if(stage = 'Panic') AS panics
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY CAST(CAST(stagetimestamp AS date) AS varchar)
ORDER BY day;
