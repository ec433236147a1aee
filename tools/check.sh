#!/usr/bin/env bash
# The checks that take seconds: format, vet, sizes and doc comments, imports.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

need_go
need_cc

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || die "not formatted, run gofmt -w on: $(echo "$unformatted" | tr '\n' ' ')"
go vet ./...
go test ./tools/tree
