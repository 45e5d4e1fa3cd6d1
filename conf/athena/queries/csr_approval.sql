-- Certificate signing requests: who asked, who approved. A certificate cannot be
-- revoked in Kubernetes, so an approval by hand wants a reason.
-- Policy: complete at Metadata; signer and conditions at Request.
-- Cost: reads requestobject.
-- jq: requests[] | select(.objectRef.resource == "certificatesigningrequests") | select(change and succeeded and (dryrun | not))
--     | {effectiveuser: who, verb, subresource: ref(.subresource), name: named, signer: .requestObject.spec.signerName?, auditid: .auditID}
SELECT stagetimestamp, effectiveuser, usertype, verb, subresource,
  coalesce(nullif(name, ''), json_extract_scalar(responseobject, '$.metadata.name'), '') AS name,
  json_extract_scalar(requestobject, '$.spec.signerName') AS signer,
  nullif(json_format(json_extract(requestobject, '$.status.conditions')), 'null') AS conditions, peerip, auditid
FROM requests
WHERE cluster = 'prod-1'
  AND dt BETWEEN '2026-11-01' AND '2026-11-07'
  AND stagetimestamp >= TIMESTAMP '2026-11-01 00:00:00'
  AND stagetimestamp <  TIMESTAMP '2026-11-08 00:00:00'
  AND resource = 'certificatesigningrequests'
  AND verb IN ('create', 'update', 'patch', 'delete', 'deletecollection')
  AND code < 400
  AND NOT regexp_like(requesturi, '[?&]dryRun=')
ORDER BY stagetimestamp;
