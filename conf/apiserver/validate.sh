#!/usr/bin/env bash
# The operator's validation run: does something of each kind in the cluster, waits
# until it has to be in the archive, and says what of it is there and what is not,
# and whether the value of a Secret got into it.
#
# Exit code: 0 if everything was found and nothing leaked, 1 if not, 2 if it could
# not be tried.
set -euo pipefail
umask 077

usage() {
  cat <<'END'
usage: validate.sh --archive WHERE --cluster NAME [OPTION...]

It creates a namespace, and in it a pod, a Secret with a random value, a Role and a
RoleBinding; reads the Secret, runs a command in the pod, and deletes it all again. It
needs kubectl, and the right to do that.

  --archive WHERE        a folder that holds cluster=..., or s3://BUCKET/PREFIX, read by this
                         project's own "ask" (run `make ask` once: it builds build/ask);
                         or athena:DATABASE, asked through the aws command
  --cluster NAME         the plugin's key "cluster"
  --upload-timeout SECS  the plugin's key "upload_timeout" (300): an object appears that long
                         after its first event, and up to a minute is added for the rest of the way
  --wait SECS            how long to wait in all, in place of that sum
  --context NAME         kubectl's context
  --image IMAGE          of the pod, which runs sleep in it (busybox:1.37)
  --pod-wait SECS        how long to wait for the pod before the exec (60); an exec that fails
                         is recorded as well
  --poll SECS            how often to ask the archive (15; Athena, which bills each question: 60)
  --endpoint URL         an S3 server other than Amazon's
  --ask PROGRAM          where build/ask is
  --workgroup NAME       Athena's workgroup, which must have a place for results (primary)
  --dry-run              say what would be done and asked, and do nothing
  --help
END
}

die() { printf 'validate.sh: %s\n' "$*" >&2; exit 2; }
say() { printf '%s\n' "$*"; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
archive='' cluster='' upload_timeout=300 context='' image=busybox:1.37 pod_wait=60
poll='' wait='' endpoint='' ask=$here/../../build/ask workgroup=primary dry_run=0
while (($#)); do
  case $1 in
  --help | -h) usage; exit 0 ;;
  --dry-run) dry_run=1 ;;
  --archive | --cluster | --upload-timeout | --context | --image | --pod-wait | --poll | --wait | --endpoint | --ask | --workgroup)
    (($# > 1)) || die "$1 needs a value"
    option=${1#--}
    declare "${option//-/_}=$2"
    shift
    ;;
  *) die "there is no option $1; see --help" ;;
  esac
  shift
done
[[ -n $archive && -n $cluster ]] || { usage >&2; exit 2; }
if [[ -z $poll ]]; then if [[ $archive == athena:* ]]; then poll=60; else poll=15; fi; fi
for seconds in "$upload_timeout" "$pod_wait" "$poll" "${wait:-0}"; do
  [[ $seconds =~ ^[0-9]+$ ]] || die "\"$seconds\" is no number of seconds"
done
wait=${wait:-$((upload_timeout + 60))}
# It stands in SQL, between quotes.
[[ $cluster =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$ ]] || die "\"$cluster\" cannot be the name of a cluster"
if [[ $archive == athena:* ]]; then
  [[ $archive =~ ^athena:[A-Za-z0-9_]+$ ]] || die "\"${archive#athena:}\" cannot be the name of a database"
else
  [[ $archive == s3://* || $archive == /* ]] || archive=$PWD/$archive
  [[ $ask == /* ]] || ask=$PWD/$ask
fi
[[ $archive == athena:* || -x $ask ]] || die "there is no $ask: run \`make ask\` once, which builds it, or give --ask"

kubectl() { command kubectl ${context:+--context "$context"} "$@"; }
random() { od -An -v -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
day=${started%T*}
run=audit-validate-$(date -u +%Y%m%d%H%M%S)-$(random 3)
# Its length is a multiple of three, so that its base64 has no padding and is the
# same wherever the value stands alone.
canary=$(random 24)
canary64=$(printf %s "$canary" | base64 | tr -d '\n')

# What must be found: what was done | resource | subresource | verbs | status codes.
# An exec is a get over a websocket and a create over SPDY; it counts if it fails, too.
readonly expected=(
  'create namespace|namespaces||create|2??'
  'create Secret|secrets||create|2??'
  'read Secret|secrets||get|2??'
  'create Role|roles||create|2??'
  'create RoleBinding|rolebindings||create|2??'
  'create pod|pods||create|2??'
  'exec into pod|pods|exec|get create|*'
  'delete pod|pods||delete|2??'
  'delete RoleBinding|rolebindings||delete|2??'
  'delete Role|roles||delete|2??'
  'delete Secret|secrets||delete|2??'
  'delete namespace|namespaces||delete|2??'
)

# rows_sql asks for the requests of this run. Each is one value, since programs differ
# in how they print several; the user's name comes last, since it may hold anything.
rows_sql() {
  cat <<END
SELECT concat_ws('|', resource, coalesce(subresource, ''), verb, coalesce(CAST(code AS varchar), ''),
    level, CAST(requestreceivedtimestamp AS varchar), username) AS line
FROM requests
WHERE cluster = '$cluster' AND dt >= '$day'
  AND resource IN ('namespaces', 'secrets', 'pods', 'roles', 'rolebindings')
  AND name = '$run' AND (namespace = '$run' OR resource = 'namespaces')
ORDER BY requestreceivedtimestamp
END
}

# needle_sql TEXT... asks for events that hold one of the texts in any column, at any
# stage, repeats included, and for the names of those columns.
needle_sql() {
  local column text places=''
  for column in requesturi username useruid usergroups userextra impersonatedusername impersonateduseruid \
    impersonatedusergroups sourceips useragent resource namespace name objectuid subresource status reason message \
    details decision decisionreason annotations requestobject responseobject otherfields source; do
    for text in "$@"; do
      places+="${places:+ || }CASE WHEN strpos($column, '$text') > 0 THEN ' $column' ELSE '' END"
    done
  done
  cat <<END
SELECT concat_ws(' ', auditid, stage, verb, resource) || ':' || places AS line
FROM (
  SELECT auditid, stage, verb, resource, $places AS places
  FROM events WHERE cluster = '$cluster' AND dt >= '$day') AS searched
WHERE places <> ''
END
}

# question SQL prints the rows, one a line.
question() {
  case $archive in
  athena:*) athena "$1" ;;
  # It looks for conf/ in the project that it is started in.
  *) (cd "$here" && "$ask" -archive "$archive" ${endpoint:+-endpoint "$endpoint"} -cluster "$cluster" -from "$started" -sql "$1") ;;
  esac
}

athena() {
  local id state
  id=$(aws athena start-query-execution --work-group "$workgroup" --query-execution-context "Database=${archive#athena:}" \
    --query-string "$1" --query QueryExecutionId --output text) || return 1
  while true; do
    state=$(aws athena get-query-execution --query-execution-id "$id" --query QueryExecution.Status.State --output text) || return 1
    case $state in
    SUCCEEDED) break ;;
    QUEUED | RUNNING) sleep 2 ;;
    *)
      aws athena get-query-execution --query-execution-id "$id" --query QueryExecution.Status.StateChangeReason --output text >&2
      return 1
      ;;
    esac
  done
  # The first row holds the column's name.
  aws athena get-query-results --no-paginate --query-execution-id "$id" --query 'ResultSet.Rows[1:].[Data[0].VarCharValue]' --output text
}

secret() {
  cat <<END
apiVersion: v1
kind: Secret
metadata: {name: $run, namespace: $run}
stringData: {canary: $canary}
END
}

pod() {
  cat <<END
apiVersion: v1
kind: Pod
metadata: {name: $run, namespace: $run}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: $image
    command: [sleep, "600"]
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 32Mi}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
END
}

# must runs kubectl; without it the run says nothing.
must() {
  local out
  out=$(kubectl "$@" 2>&1) || die "kubectl $* failed: $out"
}

cleanup() {
  rm -rf "$work"
  [[ -z $created ]] || kubectl delete namespace "$run" --ignore-not-found --wait=false >/dev/null 2>&1 || say "could not delete namespace $run: please do, if it is there" >&2
}

act() {
  local tries=0
  say "doing     as ${user:-the current user}, all under the name $run"
  created=1
  must create namespace "$run"
  # With apply, the value stands in the request twice: as stringData, and in the
  # annotation that kubectl keeps for itself.
  secret | must apply -f -
  must -n "$run" get secret "$run" -o name
  must -n "$run" create role "$run" --verb=get --resource=pods
  must -n "$run" create rolebinding "$run" --role="$run" --serviceaccount="$run:default"
  # A pod needs the namespace's service account, which a controller makes a moment later.
  until pod | kubectl create -f - >"$work/pod" 2>&1; do
    ((++tries < 10)) || die "kubectl could not create the pod: $(<"$work/pod")"
    sleep 2
  done
  kubectl -n "$run" wait --for=condition=Ready "pod/$run" --timeout="${pod_wait}s" >/dev/null 2>&1 || true
  kubectl -n "$run" exec "$run" -- true >"$work/exec" 2>&1 || say "          the exec failed, which is recorded as well: $(head -n 1 "$work/exec")"
  must -n "$run" delete pod "$run" --wait=false
  must -n "$run" delete rolebinding "$run"
  must -n "$run" delete role "$run"
  must -n "$run" delete secret "$run"
  must delete namespace "$run" --wait=false
  created=
}

# look fills found and missing from the rows of the archive.
look() {
  local rule label resource subresource verbs codes r s v code level time who hit
  found=() missing=()
  for rule in "${expected[@]}"; do
    IFS='|' read -r label resource subresource verbs codes <<<"$rule"
    hit=
    while IFS='|' read -r r s v code level time who; do
      [[ $r == "$resource" && $s == "$subresource" && " $verbs " == *" $v "* ]] || continue
      # shellcheck disable=SC2053 # codes is a pattern
      [[ $code == $codes ]] || continue
      # Controllers and kubelets delete what is in the namespace as well.
      [[ -z $user || $who == "$user" ]] || continue
      hit=1
      found+=("$(printf '%-20s %-7s %-4s %-16s %-28s %s' "$label" "$v" "$code" "$level" "$time" "$who")")
      break
    done <"$work/rows"
    [[ -n $hit ]] || missing+=("$label")
  done
}

await() {
  local begun=$SECONDS
  say "waiting   up to $wait s: an object is written upload_timeout ($upload_timeout s) after its first event, and the rest of the way takes up to a minute"
  while true; do
    if question "$(rows_sql)" >"$work/rows.new" 2>"$work/error"; then mv "$work/rows.new" "$work/rows"; fi
    look
    ((${#missing[@]})) || break
    ((SECONDS - begun < wait)) || break
    sleep "$poll"
  done
  say "          waited $((SECONDS - begun)) s"
  [[ ! -s $work/error ]] || say "          the archive's last answer: $(head -n 3 "$work/error")"
}

# leaks judges whether the value is in the archive. The same search for the run's own
# name must find something, or its silence says nothing.
leaks() {
  local control
  if [[ " ${missing[*]} " == *" create Secret "* ]]; then
    say "UNKNOWN   whether the Secret's value is in the archive: its creation is not"
    return 1
  fi
  if ! control=$(question "$(needle_sql "$run")" 2>"$work/error") || ! question "$(needle_sql "$canary" "$canary64")" >"$work/leaks" 2>"$work/error"; then
    say "UNKNOWN   whether the Secret's value is in the archive: $(head -n 3 "$work/error")"
    return 1
  fi
  if [[ -z $control ]]; then
    say "UNKNOWN   whether the Secret's value is in the archive: the search does not even find the name of this run"
    return 1
  fi
  if [[ -s $work/leaks ]]; then
    say "LEAKED    the Secret's value is in these events (audit ID, stage, verb, resource: columns); see docs/leaked-secret.md"
    sed 's/^/          /' "$work/leaks"
    return 1
  fi
  say "absent    the Secret's value, as it is and in base64: in no column of any row from $day on, where the same search finds this run's name in $(wc -l <<<"$control") rows"
}

main() {
  local line failed=0
  if [[ $dry_run == 1 ]]; then
    say "would create and delete, under the name $run: namespace, Secret, Role, RoleBinding, pod, exec"
    say "would wait up to $wait s, and ask $archive every $poll s:"
    rows_sql
    say "and then, for the Secret's value:"
    needle_sql "<the value>"
    return 0
  fi
  if ! question "$(rows_sql)" >/dev/null 2>"$work/error"; then
    grep -q 'has no files of cluster' "$work/error" || die "the archive cannot be asked, so nothing was done: $(<"$work/error")"
    say "note      $(<"$work/error")"
  fi
  user=$(kubectl auth whoami -o 'jsonpath={.status.userInfo.username}' 2>/dev/null) || user=
  act
  await
  for line in "${found[@]}"; do say "found     $line"; done
  for line in "${missing[@]}"; do say "MISSING   $line"; failed=1; done
  leaks || failed=1
  if [[ $failed == 1 ]]; then
    say "failed    docs/troubleshooting.md begins with the symptom: what is missing, and what is found in its place"
    return 1
  fi
  say "passed    what was done in the cluster is in the archive, and the secret is not"
}

user='' created='' found=() missing=()
work=$(mktemp -d)
: >"$work/rows"
trap cleanup EXIT
trap 'exit 2' INT TERM
main
