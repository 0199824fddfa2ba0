#!/bin/sh
# Installs the Debian packages that Reprise needs and this machine lacks:
# require.sh PROGRAM-OR-FILE=PACKAGE...
set -eu
missing=
for want in "$@"; do
	thing=${want%%=*} package=${want#*=}
	command -v "$thing" >/dev/null 2>&1 || [ -e "$thing" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null; then
	echo "missing:$missing; there is no apt-get here, so please install these yourself" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "missing:$missing; run again as root, or: sudo apt-get install$missing" >&2
	exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word a package
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 ||
	{ apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
