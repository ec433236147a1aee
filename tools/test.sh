#!/usr/bin/env bash
# Gets what the tests need, then runs the quick checks and all tests, and closes with one line of counts.
#
# Needed: Go, a C compiler, pip or npm (for ONNX Runtime), redis-server, chromium, and npm (for axe-core, which checks
# the page). What Debian packages is installed if we are root or may use sudo; otherwise one sentence says what is missing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

# ensure COMMAND PACKAGE: make COMMAND available from Debian's PACKAGE.
ensure() {
	have "$1" && return
	local root=''
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || die "$1 is missing: apt-get install $2 (macOS: brew install $2)"
		root=sudo
	fi
	have apt-get || die "$1 is missing: install the package $2 of your system"
	say "installing $2"
	[ -n "${updated:-}" ] || $root apt-get update -qq >&2 || die "$1 is missing, and apt-get update failed"
	updated=yes
	DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends "$2" >/dev/null || die "$1 is missing, and apt-get install $2 failed"
}

# axe VERSION SHA256: axe-core's one file in the cache, fetched by npm if it is not there.
axe() {
	local file tmp
	file=$(cache_dir)/axe-core/$1/axe.min.js
	if ! verified "$file" "$2"; then
		need npm "it fetches axe-core, which checks the page for accessibility: apt-get install npm"
		say "fetching axe-core $1 by npm"
		mkdir -p "${file%/*}"
		tmp=$(mktemp -d "${file%/*}/.fetch-XXXXXX")
		# shellcheck disable=SC2064 # tmp is local: expand it now
		trap "rm -rf '$tmp'" EXIT # of the subshell that the caller's $(...) is
		(cd "$tmp" && npm pack --silent "axe-core@$1" >/dev/null && tar -xzf "axe-core-$1.tgz") || die "axe-core $1 could not be fetched by npm"
		verified "$tmp/package/axe.min.js" "$2" || die "axe-core $1 as fetched has a wrong SHA-256"
		place "$tmp/package/axe.min.js" "$file"
	fi
	printf '%s\n' "$file"
}

need_go
need_cc
[ -n "${LEAFSERVE_ORT_LIB:-}" ] || tools/ort.sh cpu >/dev/null
ensure redis-server redis-server
have chromium || have chromium-browser || have google-chrome || ensure chromium chromium
LEAFSERVE_AXE=$(axe 4.14.1 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c)
export LEAFSERVE_AXE

tools/check.sh

# The race detector costs two to ten times the time: it runs where goroutines meet, not over the numbers.
concurrent='^leafserve/(cmd|gallery|httpapi|ort|pipeline|queue)'
# shellcheck disable=SC2046 # package paths hold no spaces
{
	status=0
	go test -json -timeout 20m $(go list ./... | grep -Ev "$concurrent") || status=1
	go test -json -timeout 20m -race $(go list ./... | grep -E "$concurrent") || status=1
	exit $status
} | go run ./tools/testsum
