# audit_s3: `make demo` shows it, `make test` proves it.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILD   := build
GO      ?= go
PLUGIN  := $(BUILD)/out_audit_s3.so

export CGO_ENABLED = 1

.PHONY: help build image certs test-tools test test-policy test-s3 test-trino test-cluster cost check-athena crash soak sizing bench demo report ask lint generate fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the plugin into build/out_audit_s3.so
	@echo "== building $(PLUGIN)"
	@$(GO) build -trimpath -buildmode=c-shared -ldflags "-s -w -X main.version=$(VERSION)" -o $(PLUGIN) ./plugin

PLATFORM ?=
PUSH     ?=
image: ## build the image audit-receiver:VERSION with docker buildx: PLATFORM=linux/amd64,linux/arm64 for both, PUSH=registry/name to push it
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null) docker buildx build $(if $(PLATFORM),--platform $(PLATFORM)) \
		--build-arg VERSION="$(VERSION)" \
		--build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
		--build-arg CREATED="$$(git log -1 --format=%cI 2>/dev/null || echo unknown)" \
		--tag $(or $(PUSH),audit-receiver):$(VERSION) $(if $(PUSH),--push,--load) .

CERTS      ?= $(BUILD)/certs
APISERVERS ?= cp-1
certs: ## make the CAs, the receiver's certificate and a client certificate for each of APISERVERS (node names), in CERTS
	@bash conf/certificates/certs.sh all $(CERTS) $(APISERVERS)

test-tools: ## build the S3 server and the stand-in host that tests and demo use
	@echo "== building the S3 server and the stand-in host (the first time takes some minutes)"
	@cd test && $(GO) build -o ../$(BUILD)/versitygw github.com/versity/versitygw/cmd/versitygw
	@$(CC) -std=gnu11 -O2 -g -Wall -Wextra -Werror -o $(BUILD)/flbhost test/flbhost/flbhost.c -ldl -lpthread

test: build test-tools ## unit tests with the race detector, fuzz seeds, end to end
	@echo "== unit tests, race detector on, with the seeds of every fuzz target"
	@$(GO) test -race ./...
	@echo "== what the race detector is too slow or too large for: a fault at every operation, memory"
	@$(GO) test ./sink -run TestEveryOperationMayFailOrBeTheLast
	@$(GO) test ./convert -run 'TestMemoryOf|TestGoldenCost|TestALargeFrame'
	@echo "== end to end" # -count=1: Go's cache does not see the plugin and the SQL, which lie outside of the module
	@cd test && $(GO) test -count=1 -timeout 15m ./...

BENCH ?=
bench: build test-tools ## audit_s3 beside null and Fluent Bit's own s3 output: CPU, memory and bytes of an optimised Fluent Bit (forty minutes; BENCH=-update writes test/bench/RESULTS.md)
	@cd test && $(GO) test ./bench -run 'TestBench$$' -v -count=1 -timeout 180m -measure -command 'make bench$(if $(BENCH), BENCH="$(BENCH)")' $(BENCH)

POLICY_CASES ?= 1000000
test-policy: ## hold a million decisions against the API server's own (some minutes)
	@$(GO) test ./convert -run TestDifferentialPolicy -policy-cases $(POLICY_CASES) -timeout 60m -v

KILLS ?= 200
crash: build test-tools ## kill the host KILLS times in each of five ways of running it, and count what reached S3 (ten minutes)
	@cd test && $(GO) test ./crash -v -count=1 -timeout 60m -kills $(KILLS)

EVENTS ?= 10000000
soak: build test-tools ## send EVENTS events, with S3 away for a third of them, and watch memory, spool and what arrives (twenty minutes)
	@cd test && $(GO) test ./soak -v -count=1 -timeout 180m -events $(EVENTS)

sizing: build test-tools ## what a receiver needs: bytes, CPU and memory of a real Fluent Bit at 1,000 and 4,000 events a second (ten minutes)
	@cd test && $(GO) test ./sizing -v -count=1 -timeout 60m -events 300000 -rates 1000,4000

test-s3: test-tools ## the way to S3 with SeaweedFS beside versitygw, and a backlog of 10,000 segments (ten minutes, most of it for building SeaweedFS)
	@echo "== building SeaweedFS"
	@cd test/seaweedfs && CGO_ENABLED=0 $(GO) build -o ../../$(BUILD)/weed github.com/seaweedfs/seaweedfs/weed
	@cd test && $(GO) test ./s3 -v -count=1 -timeout 30m -backlogs 0,1,100,10000

demo: build test-tools ## from a POST to a SQL answer on this machine, in under a minute once built
	@cd test && $(GO) run ./cmd/demo

check-athena: ## hold the CloudFormation template and the SQL against cfn-lint and sqlglot (Python, from PyPI)
	@bash conf/athena/check/check.sh $(BUILD)/venv

CLUSTERS ?= v1.37
test-cluster: build test-tools ## a real kube-apiserver with controllers and simulated nodes: its own log against the table (a real Fluent Bit; the first time builds Kubernetes, ten minutes; CLUSTERS=v1.37,v1.36,v1.35 for more)
	@for version in $$(echo $(CLUSTERS) | tr , ' '); do \
		echo "== building the control plane of $$version"; \
		for program in k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager k8s.io/kubernetes/cmd/kube-scheduler k8s.io/kubernetes/cmd/kubectl go.etcd.io/etcd/server/v3:etcd; do \
			name=$${program##*:}; (cd test/cluster/$$version && $(GO) build -o ../../../$(BUILD)/cluster/$$version/$${name##*/} $${program%%:*}) || exit 1; done; done
	@cd test/cluster/kwok && $(GO) build -o ../../../$(BUILD)/cluster/kwok/kwok sigs.k8s.io/kwok/cmd/kwok
	@cd test && $(GO) test ./cluster -v -count=1 -timeout 60m -versions $(CLUSTERS)

test-trino: build test-tools ## ask a real Trino every question of the pack (needs a JDK; fetches 0.8 GB once)
	@cd test && TRINO=1 $(GO) test ./trino -v -count=1 -timeout 60m

cost: build test-tools ## what each question reads of a day of a million events, beside out_s3's gzip JSON, and what a year of small files costs (a real Fluent Bit and Trino; half an hour)
	@cd test && TRINO=1 $(GO) test ./trino -run TestCost -v -count=1 -timeout 90m -events 1000000 -days 30

ARCHIVE ?=
CLUSTER ?= prod-1
FROM    ?= yesterday
TO      ?=
report: ## print the daily report: ARCHIVE=folder or s3://bucket/prefix, CLUSTER, FROM and TO (days, UTC)
	@cd test && $(GO) build -o ../$(BUILD)/ask ./cmd/ask
	@$(BUILD)/ask -archive "$(ARCHIVE)" -cluster "$(CLUSTER)" -from "$(FROM)" -to "$(TO)" report

QUERY ?=
ask: ## ask one question of conf/athena: QUERY=name, or none for their list; ARCHIVE, CLUSTER, FROM, TO as for report
	@cd test && $(GO) build -o ../$(BUILD)/ask ./cmd/ask
	@$(BUILD)/ask -archive "$(ARCHIVE)" -cluster "$(CLUSTER)" -from "$(FROM)" -to "$(TO)" $(QUERY)

LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

lint: ## gofmt, vet, golangci-lint, tidy modules
	@changed=$$(gofmt -l .); test -z "$$changed" || { echo "gofmt would change: $$changed" >&2; exit 1; }
	@$(GO) vet ./... && cd test && $(GO) vet ./...
	@$(GO) run $(LINT) run ./...
	@cd test && $(GO) run $(LINT) run --config ../.golangci.yml ./...
	@$(GO) mod tidy -diff && cd test && $(GO) mod tidy -diff

generate: build test-tools ## rewrite what is made from code: README's table, the table's definitions, COVERAGE.md, golden files
	@$(GO) test ./conf ./convert ./metrics ./sink/spool ./sink/dedup -run 'TestReadme|TestGolden|TestGenerated' -update
	@cd test && $(GO) test -count=1 ./ask ./bench ./sizing ./prometheus -run TestGenerated -update

FUZZTIME ?= 30s
fuzz: ## run every fuzz target for FUZZTIME each
	@for package in ./convert ./metrics ./sink/spool ./sink/dedup; do \
		for target in $$($(GO) test $$package -list '^Fuzz' | grep '^Fuzz'); do \
			$(GO) test $$package -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x || exit 1; done; done

clean: ## remove what was built
	@rm -rf $(BUILD)
