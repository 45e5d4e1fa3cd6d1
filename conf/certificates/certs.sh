#!/usr/bin/env bash
# Certificates between kube-apiserver's audit webhook and audit-receiver, with
# nothing but openssl: two CAs, the receiver's certificate, and one client
# certificate for each API server. docs/certificates.md says how they are used.
#
# Two CAs, because they answer two questions. The client CA says who may write
# into the archive, and Fluent Bit accepts every certificate that it has signed
# without looking at a name: so it signs nothing else, ever. The server CA says
# who may receive the events; where an issuer of yours signs the receiver's
# certificate, it takes the place of the server CA and the client CA stays as it is.
set -euo pipefail
umask 077

readonly ca_days=1825   # 5 years: renewed by rotate-ca, with overlap, long before
readonly leaf_days=365  # 1 year: what is renewed every year is renewed by people who know how
readonly service=audit-receiver.security.svc

usage() {
  cat <<'END'
usage: certs.sh [OPTION...] COMMAND DIR [ARGUMENT...]

  all DIR NAME...       make what is missing: both CAs, the receiver's certificate, and
                        a client certificate for each API server NAME (its node's name)
  server DIR            make the receiver's certificate, if it is missing
  client DIR NAME...    make client certificates, those that are missing
  renew DIR WHAT...     a new key and certificate: WHAT is "server", a NAME, or "all"
  rotate-ca DIR WHICH   a new CA beside the old one, both in the bundle: WHICH is "client" or "server"
  finish-ca DIR WHICH   take the old CA out of the bundle; refused while a certificate of it is in use
  show DIR              who, signed by whom, until when, fingerprint
  check DIR [DAYS]      exit 1 if anything ends within DAYS (30)
  secrets DIR           print the commands that put the receiver's Secrets into the cluster

options:
  --san NAME            a further name or address of the receiver; may be repeated, and is
                        kept for renewals. Not needed for its ClusterIP, since
                        tls-server-name in the kubeconfig names the Service
  --yes                 do not ask before a key is replaced or an old CA is given up
  --help

In DIR: server/tls.crt, tls.key; clients/NAME/tls.crt, tls.key; client-ca.crt and
server-ca.crt, the bundles to be trusted; client-ca/ and server-ca/ with the CAs' keys.
Nothing in the cluster needs the CAs' keys: keep DIR where the cluster cannot read it.
END
}

die() { printf 'certs.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# confirm asks before something is lost that cannot be made again.
confirm() {
  [[ $yes == 1 ]] && return
  [[ -t 0 ]] || die "$1 Say --yes to do it; nothing was changed."
  read -r -p "$1 Go on? [y/N] " answer
  [[ $answer == y || $answer == Y ]] || die "nothing was changed"
}

# openssl_quietly shows what openssl says only where it fails.
openssl_quietly() {
  local out
  out=$(openssl "$@" 2>&1) || die "openssl $1 failed: $out"
}

valid_name() {
  [[ $1 =~ ^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$ ]] ||
    die "\"$1\" is no name of an API server: letters, digits, - and . (use the node's name)"
  [[ $1 != server && $1 != all ]] || die "an API server cannot be called \"$1\": it means something else here"
}

valid_which() { [[ ${1:-} == client || ${1:-} == server ]] || die "which CA: client or server?"; }

new_key() { openssl_quietly genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

serial() { printf '0x%s' "$(openssl rand -hex 16)"; }

# make_ca WHICH FOLDER makes a CA.
make_ca() {
  local which=$1 made=$2
  rm -rf "$made"
  mkdir -p "$made"
  cat >"$made/openssl.cnf" <<END
[req]
distinguished_name = dn
prompt = no
[dn]
O = audit-receiver
# The date and a random part tell an old CA from a new one; two CAs of one name
# would be taken for each other by some verifiers.
CN = audit-receiver $which CA $(date -u +%Y-%m-%d) $(openssl rand -hex 3)
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
  new_key "$made/ca.key"
  openssl_quietly req -new -x509 -sha256 -days "$ca_days" -set_serial "$(serial)" \
    -config "$made/openssl.cnf" -extensions ca -key "$made/ca.key" -out "$made/ca.crt"
  rm "$made/openssl.cnf"
}

# first_ca WHICH makes DIR/WHICH-ca, whole or not at all.
first_ca() {
  local which=$1
  make_ca "$which" "$dir/.$which-ca.new"
  mv "$dir/.$which-ca.new" "$dir/$which-ca"
  bundle "$which"
  say "made      $dir/$which-ca.crt, and its key in $dir/$which-ca/ca.key"
}

# bundle WHICH writes what is to be trusted: the CA, and during a rotation the old one too.
bundle() {
  local ca=$dir/$1-ca
  { cat "$ca/ca.crt"; [[ ! -f $ca/previous/ca.crt ]] || cat "$ca/previous/ca.crt"; } >"$dir/$1-ca.crt.new"
  mv "$dir/$1-ca.crt.new" "$dir/$1-ca.crt"
}

need_ca() { [[ -f $dir/$1-ca/ca.key ]] || die "there is no $1 CA in $dir (or its key is kept elsewhere): run \"certs.sh all $dir NAME...\" first"; }

# make_leaf CA FOLDER CN USAGE SAN makes FOLDER/tls.key and tls.crt, in place of what is there.
make_leaf() {
  local ca=$dir/$1-ca folder=$2 cn=$3 usage=$4 san=$5 made=$2/.new
  need_ca "$1"
  rm -rf "$made"
  mkdir -p "$made"
  new_key "$made/tls.key"
  # A common name has 64 characters at most; the whole name stands in subjectAltName.
  cat >"$made/openssl.cnf" <<END
[req]
distinguished_name = dn
prompt = no
[dn]
O = audit-receiver
CN = ${cn:0:64}
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $usage
subjectAltName = $san
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
  openssl_quietly req -new -sha256 -config "$made/openssl.cnf" -key "$made/tls.key" -out "$made/tls.csr"
  openssl_quietly x509 -req -sha256 -days "$leaf_days" -set_serial "$(serial)" -in "$made/tls.csr" \
    -CA "$ca/ca.crt" -CAkey "$ca/ca.key" -extfile "$made/openssl.cnf" -extensions leaf -out "$made/tls.crt"
  mv "$made/tls.key" "$made/tls.crt" "$folder"
  rm -rf "$made"
  say "made      $folder/tls.crt and tls.key, until $(ends "$folder/tls.crt")"
}

server_names() {
  local san="DNS:$service, DNS:$service.cluster.local, DNS:localhost, IP:127.0.0.1, IP:::1" name
  for name in "${sans[@]}"; do
    if [[ $name =~ ^[0-9]+(\.[0-9]+){3}$ || $name == *:* ]]; then
      san+=", IP:$name"
    elif [[ $name =~ ^[A-Za-z0-9*]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]]; then
      san+=", DNS:$name"
    else
      die "--san \"$name\" is neither a name nor an address"
    fi
  done
  printf '%s' "$san"
}

new_server() {
  local names
  # What --san said holds for later renewals too, until it is said anew.
  if ((${#sans[@]} == 0)) && [[ -f $dir/server/san ]]; then mapfile -t sans <"$dir/server/san"; fi
  names=$(server_names)
  make_leaf server "$dir/server" "$service" serverAuth "$names"
  ((${#sans[@]} == 0)) || printf '%s\n' "${sans[@]}" >"$dir/server/san"
}
new_client() { make_leaf client "$dir/clients/$1" "$1" clientAuth "DNS:$1"; }

server() {
  if [[ -f $dir/server/tls.key ]]; then say "kept      $dir/server/tls.crt (renew makes a new one)"; else new_server; fi
}

client() {
  local name
  for name in "$@"; do
    if [[ -f $dir/clients/$name/tls.key ]]; then say "kept      $dir/clients/$name/tls.crt (renew makes a new one)"; else new_client "$name"; fi
  done
}

all() {
  local which
  for which in client server; do
    if [[ -f $dir/$which-ca/ca.crt ]]; then say "kept      $dir/$which-ca.crt"; else first_ca "$which"; fi
  done
  server
  client "$@"
}

names() { local d; for d in "$dir"/clients/*/; do [[ -d $d ]] && basename "$d"; done; return 0; }

renew() {
  local what name
  (($#)) || die "what is to be renewed: \"server\", the name of an API server, or \"all\"?"
  for what in "$@"; do
    [[ $what == all || $what == server || -d $dir/clients/$what ]] || die "there is no certificate of \"$what\" in $dir; there are: server $(names | tr '\n' ' ')"
  done
  confirm "The keys of $* in $dir are replaced; what is installed goes on working until it expires."
  for what in "$@"; do
    case $what in
    all) new_server; for name in $(names); do new_client "$name"; done ;;
    server) new_server ;;
    *) new_client "$what" ;;
    esac
  done
}

rotate_ca() {
  local which=$1 ca=$dir/$1-ca
  need_ca "$which"
  [[ ! -d $ca/previous ]] || die "a rotation of the $which CA is under way: renew its certificates, install them, then \"finish-ca $dir $which\""
  confirm "A new $which CA is made; the old one stays trusted until finish-ca."
  make_ca "$which" "$dir/.$which-ca.new"
  mv "$ca" "$dir/.$which-ca.new/previous"
  mv "$dir/.$which-ca.new" "$ca"
  bundle "$which"
  say "now       $dir/$which-ca.crt holds both: install it, wait until it is taken up, then \"renew\""
}

finish_ca() {
  local which=$1 ca=$dir/$1-ca crt
  [[ -d $ca/previous ]] || die "no rotation of the $which CA is under way"
  for crt in $(leaves "$which"); do
    openssl verify -CAfile "$ca/ca.crt" "$crt" >/dev/null 2>&1 ||
      die "$crt is still signed by the old $which CA: renew it, install it, and come back"
  done
  confirm "The old $which CA is deleted here. What is not installed yet stops working when the new bundle is."
  rm -rf "$ca/previous"
  bundle "$which"
  say "now       $dir/$which-ca.crt holds the new CA alone: install it"
}

# leaves WHICH lists the certificates of that CA.
leaves() {
  if [[ $1 == server ]]; then [[ ! -f $dir/server/tls.crt ]] || echo "$dir/server/tls.crt"; return; fi
  local name
  for name in $(names); do echo "$dir/clients/$name/tls.crt"; done
}

certificates() {
  local which
  for which in client server; do
    [[ ! -f $dir/$which-ca/ca.crt ]] || echo "$dir/$which-ca/ca.crt"
    [[ ! -f $dir/$which-ca/previous/ca.crt ]] || echo "$dir/$which-ca/previous/ca.crt"
    leaves "$which"
  done
}

ends() { openssl x509 -in "$1" -noout -enddate | cut -d= -f2; }

show() {
  local crt any=
  for crt in $(certificates); do
    any=1
    say "$crt"
    openssl x509 -in "$crt" -noout -subject -issuer -enddate -fingerprint -sha256 | sed 's/^ */  /'
    # LibreSSL has no -ext.
    openssl x509 -in "$crt" -noout -ext subjectAltName,extendedKeyUsage 2>/dev/null | grep -v '^X509v3' | sed 's/^ */  for /' || true
    openssl x509 -in "$crt" -noout -checkend 0 >/dev/null || say "  EXPIRED"
  done
  [[ -n $any ]] || die "there are no certificates in $dir"
}

check() {
  local days=${1:-30} crt soon=0 any=
  [[ $days =~ ^[0-9]+$ ]] || die "\"$days\" is no number of days"
  for crt in $(certificates); do
    any=1
    openssl x509 -in "$crt" -noout -checkend $((days * 86400)) >/dev/null && continue
    soon=1
    if openssl x509 -in "$crt" -noout -checkend 0 >/dev/null; then say "SOON      $crt ends $(ends "$crt")"; else say "EXPIRED   $crt ended $(ends "$crt")"; fi
  done
  [[ -n $any ]] || die "there are no certificates in $dir"
  [[ $soon == 1 ]] || say "all certificates in $dir hold for more than $days days"
  return "$soon"
}

secrets() {
  [[ -f $dir/server/tls.crt && -f $dir/client-ca.crt ]] || die "there is nothing to install in $dir: run \"certs.sh all $dir NAME...\" first"
  cat <<END
kubectl -n security create secret tls audit-receiver-tls --cert=$dir/server/tls.crt --key=$dir/server/tls.key --dry-run=client -o yaml | kubectl apply -f -
kubectl -n security create secret generic audit-receiver-client-ca --from-file=ca.crt=$dir/client-ca.crt --dry-run=client -o yaml | kubectl apply -f -
END
}

yes=0
sans=()
arguments=()
while (($#)); do
  case $1 in
  --help | -h) usage; exit 0 ;;
  --yes) yes=1 ;;
  --san) (($# > 1)) || die "--san needs a name or an address"; sans+=("$2"); shift ;;
  -*) die "there is no option $1; see --help" ;;
  *) arguments+=("$1") ;;
  esac
  shift
done
set -- "${arguments[@]}"
command -v openssl >/dev/null || die "openssl is not installed"
(($# >= 2)) || { usage >&2; exit 2; }
command=$1 dir=${2%/}
shift 2
[[ $dir != *[[:space:]]* ]] || die "the folder's name must not hold white space"

case $command in
all | client)
  [[ $command == all ]] || need_ca client
  (($#)) || die "for which API servers? Give each one's node name"
  for name in "$@"; do valid_name "$name"; done
  mkdir -p "$dir"
  "$command" "$@"
  [[ $command != all ]] || { say; secrets; }
  ;;
server) need_ca server; server ;;
renew) renew "$@" ;;
rotate-ca) valid_which "${1:-}"; rotate_ca "$1" ;;
finish-ca) valid_which "${1:-}"; finish_ca "$1" ;;
show) show ;;
check) check "$@" ;;
secrets) secrets ;;
*) die "there is no command \"$command\"; see --help" ;;
esac
