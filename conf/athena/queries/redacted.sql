-- Where redaction found something to replace, by resource and user. Many where
-- there were few means that somebody began to send secrets where none belong.
-- Policy: counts what is recorded.
-- Cost: metadata only.
-- jq: empty
SELECT objectref.resource AS resource, verb, coalesce(impersonateduser.username, userinfo.username) AS effectiveuser,
  count(*) AS events, sum(redactions) AS redactions, max(stagetimestamp) AS last
FROM audit
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND redactions > 0
GROUP BY objectref.resource, verb, coalesce(impersonateduser.username, userinfo.username)
ORDER BY redactions DESC, resource, verb, effectiveuser;
