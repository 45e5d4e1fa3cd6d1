# audit_s3: `make demo` shows it, `make test` proves it.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILD   := build
GO      ?= go
PLUGIN  := $(BUILD)/out_audit_s3.so

export CGO_ENABLED = 1

.PHONY: help build test-tools test test-policy crash demo lint generate fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the plugin into build/out_audit_s3.so
	@echo "== building $(PLUGIN)"
	@$(GO) build -trimpath -buildmode=c-shared -ldflags "-s -w -X main.version=$(VERSION)" -o $(PLUGIN) ./plugin

test-tools: ## build the S3 server and the stand-in host that tests and demo use
	@echo "== building the S3 server and the stand-in host (the first time takes some minutes)"
	@cd test && $(GO) build -o ../$(BUILD)/versitygw github.com/versity/versitygw/cmd/versitygw
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -o $(BUILD)/flbhost test/flbhost/flbhost.c -ldl -lpthread

test: build test-tools ## unit tests with the race detector, fuzz seeds, end to end
	@echo "== unit tests, race detector on, with the seeds of every fuzz target"
	@$(GO) test -race ./...
	@echo "== end to end"
	@cd test && $(GO) test -timeout 9m ./...

POLICY_CASES ?= 1000000
test-policy: ## hold a million decisions against the API server's own (some minutes)
	@$(GO) test ./convert -run TestDifferentialPolicy -policy-cases $(POLICY_CASES) -timeout 60m -v

KILLS ?= 200
crash: build test-tools ## kill the host KILLS times in each of four ways of running it, and count what reached S3 (ten minutes)
	@cd test && $(GO) test ./crash -v -count=1 -timeout 60m -kills $(KILLS)

demo: build test-tools ## from a POST to a SQL answer on this machine, in under a minute once built
	@cd test && $(GO) run ./cmd/demo

LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

lint: ## gofmt, vet, golangci-lint, tidy modules
	@changed=$$(gofmt -l .); test -z "$$changed" || { echo "gofmt would change: $$changed" >&2; exit 1; }
	@$(GO) vet ./... && cd test && $(GO) vet ./...
	@$(GO) run $(LINT) run ./...
	@cd test && $(GO) run $(LINT) run --config ../.golangci.yml ./...
	@$(GO) mod tidy -diff && cd test && $(GO) mod tidy -diff

generate: ## rewrite what is made from code: README's table, golden files
	@$(GO) test ./conf ./convert ./sink/spool -run 'TestReadme|TestGolden' -update

FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME each
	@for target in FuzzChunk FuzzEvent FuzzFrame FuzzPolicy FuzzJSON FuzzSecretSpans; do \
		$(GO) test ./convert -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; done
	@$(GO) test ./sink/spool -run '^$$' -fuzz '^FuzzSegment$$' -fuzztime $(FUZZTIME) -fuzzminimizetime 10x

clean: ## remove what was built
	@rm -rf $(BUILD)
