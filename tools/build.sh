#!/usr/bin/env bash
# Builds bin/leafserve and puts ONNX Runtime beside it, so that a copy of bin/ runs on its own.
# usage: tools/build.sh [cpu|cuda] [VERSION]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

need_go
need_cc
library=$(tools/ort.sh "${1:-cpu}")

go build -trimpath -ldflags "-s -w -X main.version=${2:-unknown}" -o bin/leafserve ./cmd/leafserve

rm -rf bin/lib
mkdir -p bin/lib
for file in "$library"/*; do
	[ -f "$file" ] || continue
	ln "$file" bin/lib/ 2>/dev/null || cp "$file" bin/lib/ # the CUDA provider has 370 MB: one copy will do
done
