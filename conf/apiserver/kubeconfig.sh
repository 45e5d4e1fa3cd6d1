#!/usr/bin/env bash
# Makes the folder that one API server needs: the webhook's kubeconfig, its client
# certificate, what it trusts, and the audit policy. Copy it to the node, and see
# README.md beside this file for the flags that name it.
set -euo pipefail
umask 077

usage() {
  cat <<'END'
usage: kubeconfig.sh [OPTION...] NAME

NAME is the API server's: its node's name, as given to certs.sh. The folder OUT then
holds webhook.kubeconfig, tls.crt, tls.key, ca.crt and policy.yaml.

  --certs DIR       where certs.sh made the certificates (build/certs)
  --address HOST    the receiver's address, with :PORT if it is not 8443; by default the
                    ClusterIP of Service audit-receiver in namespace security, asked of kubectl
  --directory DIR   where the folder will lie for the API server (/etc/kubernetes/audit)
  --policy FILE     the audit policy (conf/policy/compliance.yaml); give the receiver the same
  --embed           write the certificates into the kubeconfig: one file, for distributions that
                    can place only one. The API server then has to restart to take up new ones
  --out DIR         where to write (build/apiserver/NAME)
  --help
END
}

die() { printf 'kubeconfig.sh: %s\n' "$*" >&2; exit 1; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
certs=$root/build/certs policy=$root/conf/policy/compliance.yaml
address='' directory=/etc/kubernetes/audit embed=0 out='' name=''
while (($#)); do
  case $1 in
  --help | -h) usage; exit 0 ;;
  --embed) embed=1 ;;
  --certs | --address | --directory | --policy | --out)
    (($# > 1)) || die "$1 needs a value"
    declare "${1#--}=$2"
    shift
    ;;
  -*) die "there is no option $1; see --help" ;;
  *) [[ -z $name ]] || die "one API server at a time: $name or $1?"; name=$1 ;;
  esac
  shift
done
[[ -n $name ]] || { usage >&2; exit 2; }
[[ $name =~ ^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$ ]] || die "\"$name\" cannot be a path: letters, digits, - and . (use the node's name)"
out=${out:-$root/build/apiserver/$name}

client=$certs/clients/$name
[[ -f $client/tls.crt && -f $client/tls.key && -f $certs/server-ca.crt ]] ||
  die "there is no certificate for $name in $certs: run conf/certificates/certs.sh all $certs $name"
[[ -f $policy ]] || die "there is no policy $policy"

if [[ -z $address ]]; then
  address=$(kubectl -n security get service audit-receiver -o 'jsonpath={.spec.clusterIP}') ||
    die "kubectl could not read Service audit-receiver in namespace security; install the receiver first, or give --address"
  [[ -n $address && $address != None ]] ||
    die "Service audit-receiver has no ClusterIP (\"$address\"): give --address"
fi
# An IPv6 address needs brackets before a port.
if [[ $address == *:*:* && $address != \[* ]]; then address="[$address]"; fi
[[ $address =~ :[0-9]+$ ]] || address+=:8443
host=${address%:*}
case $host in
*.svc | *.svc.* | *.cluster.local) die "$host is a name of the cluster's DNS, which the API server does not ask: give an address" ;;
esac

base64_of() { base64 <"$1" | tr -d '\n'; }

mkdir -p "$out"
config=$(<"$here/webhook.kubeconfig.template")
config=${config//@ADDRESS@/$address}
config=${config//@NAME@/$name}
if [[ $embed == 1 ]]; then
  config=${config//"certificate-authority: @DIRECTORY@/ca.crt"/"certificate-authority-data: $(base64_of "$certs/server-ca.crt")"}
  config=${config//"client-certificate: @DIRECTORY@/tls.crt"/"client-certificate-data: $(base64_of "$client/tls.crt")"}
  config=${config//"client-key: @DIRECTORY@/tls.key"/"client-key-data: $(base64_of "$client/tls.key")"}
  config=${config//"# By path, not embedded: the API server reads replaced files again by itself."/"# Embedded: the API server has to restart to take up others."}
else
  config=${config//@DIRECTORY@/$directory}
  cp "$client/tls.crt" "$client/tls.key" "$out/"
  cp "$certs/server-ca.crt" "$out/ca.crt"
fi
printf '%s\n' "$config" >"$out/webhook.kubeconfig"
cp "$policy" "$out/policy.yaml"
printf '%s\n' "$out is for $name alone: copy it to $directory on that node, owned by the user that runs kube-apiserver, mode 0700"
