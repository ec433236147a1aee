# make help lists the targets. ORT=cuda takes ONNX Runtime with CUDA instead of the CPU build;
# ARGS are handed to leafserve: make run ARGS='--addr 127.0.0.1:9000'.

ORT ?= cpu
ARGS ?=
FUZZTIME ?= 10s
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

export CGO_ENABLED = 1

.DEFAULT_GOAL := help

.PHONY: help ort build run test check bench fuzz chaos golden licences clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

ort: ## fetch ONNX Runtime's shared library into the user's cache (ORT=cuda: with CUDA)
	@tools/ort.sh $(ORT)

build: ## build bin/leafserve with the runtime inside (ORT=cuda: beside it, in bin/lib)
	@tools/build.sh $(ORT) $(VERSION)

run: build ## fetch what is missing, build, and serve on http://127.0.0.1:8080
	@exec bin/leafserve serve $(ARGS)

test: ## fetch what tests need, then check and run all tests
	@tools/test.sh

check: ## the quick checks: format, vet, sizes and doc comments, imports
	@tools/check.sh

bench: build ## measure this machine: cold start, seconds a step, pictures a second, memory
	@bin/leafserve bench $(ARGS)

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@tools/fuzz.sh $(FUZZTIME)

chaos: ## kill workers, take Redis away, fill the disk: what tests do briefly, for a quarter of an hour
	@tools/chaos.sh

golden: ## say how the reference numbers in testdata are made again
	@cat tools/golden/README.md

licences: ## write the table and texts of the Go modules' licences into THIRD_PARTY.md
	@go run ./tools/licences THIRD_PARTY.md

clean: ## remove bin; fetched files stay in the user's cache
	rm -rf bin
