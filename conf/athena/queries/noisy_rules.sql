-- What the archive consists of: events and body bytes by the policy rule that let
-- them in, with the resource and user that make most of it. policyrule counts
-- from 0 in the policy that policydigest names (_policy/).
-- Policy: counts what is recorded.
-- Cost: reads requestobject and responseobject, for their lengths.
-- jq: group_by([.objectRef.resource // "", .verb, who])[]
--     | {resource: (.[0] | ref(.resource)), verb: .[0].verb, effectiveuser: (.[0] | who), events: length}
SELECT policydigest, policyrule, objectref.resource AS resource, verb,
  coalesce(impersonateduser.username, userinfo.username) AS effectiveuser, count(*) AS events,
  sum(coalesce(length(requestobject), 0) + coalesce(length(responseobject), 0)) AS bodycharacters
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
GROUP BY policydigest, policyrule, objectref.resource, verb,
  coalesce(impersonateduser.username, userinfo.username)
ORDER BY events DESC, resource, verb, effectiveuser;
