#!/usr/bin/env bash
# Holds what is deployed to AWS against AWS's own descriptions of it, without an
# account: the template against the schemas of its resources and the lists of IAM
# actions that cfn-lint brings along.
#
# usage: check.sh [FOLDER OF THE PYTHON TOOLS, default build/venv]
#
# The tools of requirements.txt are installed there the first time, and again when
# that file or the Python changes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=${1:-$root/build/venv}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
requirements=$here/requirements.txt
template=conf/athena/cloudformation.yaml
# Schemas differ between regions. These are one of each partition, and the two that
# most things begin in.
regions=(us-east-1 eu-central-1 us-gov-west-1 cn-north-1)

fail() {
	echo "check.sh: $*" >&2
	exit 1
}

command -v python3 >/dev/null ||
	fail "python3 is not on the PATH; install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	fail "$(python3 --version) is too old for the tools in $requirements; they need 3.11 or newer"
python3 -c 'import ensurepip, venv' 2>/dev/null ||
	fail "python3 has no pip to put into a virtual environment; install it (Debian: apt-get install python3-venv)"

wanted=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), sys.version.split()[0])' "$requirements")
if [ "$(cat "$venv/stamp" 2>/dev/null)" != "$wanted" ]; then
	echo "check.sh: installing the tools of requirements.txt into $venv"
	python3 -m venv --clear "$venv" || fail "no virtual environment could be made in $venv"
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" ||
		fail "pip could not install $requirements; see above"
	# Last, so that what was cut off begins anew.
	echo "$wanted" >"$venv/stamp"
fi

cd "$root"
# Warnings fail too.
"$venv/bin/cfn-lint" --regions "${regions[@]}" -- "$template" ||
	fail "cfn-lint does not take $template; see above"

echo "check.sh: $template is what $("$venv/bin/cfn-lint" --version) expects, for ${regions[*]}"
"$venv/bin/python" "$here/parse.py" || fail "the SQL of the pack does not parse; see above"
