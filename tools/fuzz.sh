#!/usr/bin/env bash
# Runs every fuzz target of the tree, one after the other. usage: tools/fuzz.sh [TIME EACH, such as 10s]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

need_go
need_cc
found=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		found=$((found + 1))
		say "fuzzing $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" "$package"
	done
done
say "$found fuzz targets found nothing"
