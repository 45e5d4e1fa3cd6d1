# What the jq programs in the queries' heads start from. They expect all events
# of the window as one array:
#
#   jq -n -L . 'include "audit"; [inputs] | requests[] | select(.responseStatus.code == 403)' audit.log

# who acted in the end: the impersonated user where there is one.
def who: .impersonatedUser.username // .user.username // "";

# What tells one request from another; a repeat to another replica has the same.
def identity: [.auditID, .stage, .requestReceivedTimestamp, .stageTimestamp, .requestURI, .user.username, .responseStatus.code];

# One event per request: the last stage of each, repeats collapsed.
def requests: map(select(.stage == "ResponseComplete" or .stage == "Panic"
    or (.stage == "ResponseStarted" and (.user.username // "") == "")))
  | unique_by(identity);

def change: .verb | IN("create", "update", "patch", "delete", "deletecollection");
def succeeded: (.responseStatus.code // 999) < 400;
def dryrun: .requestURI | test("[?&]dryRun=");

# The object's name; with generateName it is only in the answer.
def named: if (.objectRef.name // "") != "" then .objectRef.name else (.responseObject.metadata.name? // "") end;

# A field of objectRef as the table has it: null where there is no objectRef.
def ref(f): if .objectRef == null then null else (.objectRef | f // "") end;

# JSON text, or null where there is nothing.
def json: if . == null then null else tojson end;

def count(f): map(select(f)) | length;
def median(a): a | sort | .[(length - 1) / 2 | floor];
def seconds: .[:19] + "Z" | fromdateiso8601;
