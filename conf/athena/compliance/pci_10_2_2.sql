-- Whether each archived request has what an entry must have: who, what, when,
-- success or failure, from where, on what. One row per day and missing detail,
-- with one audit ID to look at; no rows but 'complete' is the wanted result.
-- Control: PCI DSS v4.0.1 10.2.2, details of each auditable event.
-- Policy: complete at Metadata. A failed login has no user, by nature.
-- Cost: metadata only.
-- jq: [requests[] | {dt: .stageTimestamp[:10], auditid: .auditID, missing:
--       (if who == "" and .responseStatus.code != 401 then "user" elif (.verb // "") == "" then "type"
--        elif .responseStatus.code == null then "success or failure" elif ((.sourceIPs // []) | length) == 0 then "origin"
--        elif (.requestURI // "") == "" then "resource" else "complete" end)}]
--     | group_by([.dt, .missing])[] | {dt: .[0].dt, missing: .[0].missing, requests: length}
CREATE OR REPLACE VIEW pci_10_2_2 AS
SELECT cluster, dt, missing, count(*) AS requests, min(stagetimestamp) AS stagetimestamp, min(auditid) AS auditid
FROM (
  SELECT cluster, dt, stagetimestamp, auditid,
    CASE
      WHEN effectiveuser = '' AND (code IS NULL OR code <> 401) THEN 'user'
      WHEN verb = '' THEN 'type'
      WHEN code IS NULL THEN 'success or failure'
      WHEN peerip IS NULL THEN 'origin'
      WHEN requesturi = '' THEN 'resource'
      ELSE 'complete'
    END AS missing
  FROM requests
) AS checked
GROUP BY cluster, dt, missing;
