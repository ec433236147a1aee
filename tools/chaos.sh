#!/usr/bin/env bash
# Breaks things on purpose, in the long form of the tests that do so in short form with all others: workers killed,
# stopped and starved, Redis killed, paused and failing over. It takes a quarter of an hour, tells what each test saw as
# it goes, and closes with one line of counts and the name of the log, which has all that was said.
#
# usage: tools/chaos.sh [PATTERN of test names]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

need_go
need_cc
need redis-server "apt-get install redis-server (macOS: brew install redis)"
[ -n "${LEAFSERVE_ORT_LIB:-}" ] || tools/ort.sh cpu >/dev/null

# Of a verbose run: the tests as they start and end, what they tell about themselves, and what keeps one from running.
summary='
	/^=== (RUN|PAUSE|CONT|NAME)/ {
		name = $3
		if ($2 == "RUN") print "      " name
	}
	/^ *--- (PASS|FAIL|SKIP)/ {
		n[$2]++
		print $2, $3, $4
	}
	/^ +[a-z_]+_test\.go:[0-9]+: / {
		sub(/^ +[a-z_]+_test\.go:[0-9]+: /, "")
		print "      " name ": " substr($0, 1, 300)
	}
	/^(FAIL|ok|panic|#)/
	{ fflush() }
	END { printf "%d passed, %d failed, %d skipped\n", n["PASS:"], n["FAIL:"], n["SKIP:"] }'

log=$(mktemp "${TMPDIR:-/tmp}/leafserve-chaos-XXXXXX")
export LEAFSERVE_CHAOS=long
status=0
go test -count=1 -timeout 60m -p 1 -v -run "${1:-Chaos|Outage|Failover|Replicas}" ./queue ./cmd/leafserve 2>&1 |
	tee "$log" | awk "$summary" || status=$?
say "$SECONDS s; the log is $log"
exit "$status"
