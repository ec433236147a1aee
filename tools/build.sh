#!/usr/bin/env bash
# Builds bin/leafserve. ONNX Runtime's CPU library goes into the program, so that this one file runs anywhere; the CUDA
# libraries (600 MB) go beside it into bin/lib, so that a copy of bin/ does.
# usage: tools/build.sh [cpu|cuda] [VERSION]
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$(dirname "$0")/.."

need_go
need_cc
library=$(tools/ort.sh "${1:-cpu}")
flags="-s -w -X main.version=${2:-unknown}"

rm -rf bin/lib
mkdir -p bin
for notice in LICENSE ThirdPartyNotices.txt; do # of ONNX Runtime: they go with every copy
	[ ! -f "$library/$notice" ] || cp "$library/$notice" "bin/onnxruntime-$notice"
done
if [ "${1:-cpu}" = cpu ]; then
	gzip -9nc "$library"/libonnxruntime* >ort/libonnxruntime.gz
	go build -tags ortbundle -trimpath -ldflags "$flags" -o bin/leafserve ./cmd/leafserve
	exit
fi
go build -trimpath -ldflags "$flags" -o bin/leafserve ./cmd/leafserve
mkdir -p bin/lib
for file in "$library"/*; do
	[ -f "$file" ] || continue
	ln "$file" bin/lib/ 2>/dev/null || cp "$file" bin/lib/ # the CUDA provider has 370 MB: one copy will do
done
