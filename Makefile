# `make` lists what there is to make. Everything lands in dist/, and nothing is
# built again that is up to date.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# Only runc needs cgo; cmd/tools/build.sh turns it on for that alone.
export CGO_ENABLED = 0
export GOFLAGS = -buildvcs=false

KUBERNETES := $(shell sed -n 's/^\tk8s.io\/kubernetes v//p' go.mod)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.programVersion=$(VERSION) \
	-X k8s.io/component-base/version.gitVersion=v$(KUBERNETES) \
	-X k8s.io/component-base/version.gitMajor=$(word 1,$(subst ., ,$(KUBERNETES))) \
	-X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES)))

SOURCES := go.mod go.sum $(shell find agents cmd events projections schemas -name '*.go' -not -name '*_test.go' 2>/dev/null)
NODE_TOOLS := containerd runc cni
TEST_TOOLS := helm kubectl
PEER_TOOLS := kubernetes etcd kwok
STAMPS := dist/.stamps
# How long the slowest package may test.
TIMEOUT ?= 15m

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

.PHONY: run
run: build tools images ## install what is missing, build, and start a cluster of one node here
	exec dist/bin/reprise up

.PHONY: build
build: dist/bin/reprise ## build the one binary, dist/bin/reprise

.PHONY: tools
tools: $(NODE_TOOLS:%=$(STAMPS)/%) ## build what a node runs beside it: containerd, its shim, runc, the CNI plugins

.PHONY: images
images: dist/images/pause.tar ## build the pause and the demo images into dist/images

.PHONY: test
test: unit lint e2e ## test everything, with real containers and an unmodified kubectl

.PHONY: unit
unit: ## test all that needs neither root nor containers
	go test -timeout $(TIMEOUT) $$(go list ./... | grep -v /cmd/lint)

.PHONY: e2e
e2e: build tools images $(TEST_TOOLS:%=$(STAMPS)/%) $(STAMPS)/javascript $(STAMPS)/asyncapi $(STAMPS)/disk ## test on real containers, and on disks that fail; needs root
	go test -tags e2e -count 1 -timeout $(TIMEOUT) -p 1 ./agents/node/... ./cmd/reprise/... ./cmd/torture/...

.PHONY: torture
torture: ROUNDS ?= 200
torture: build $(STAMPS)/disk ## kill, cut the power and break the disk ROUNDS times (200) under load, by chance from SEED; needs root
	go run ./cmd/torture -of log -rounds $(ROUNDS) $(if $(SEED),-seed $(SEED))
	go run ./cmd/torture -of volatile -rounds $(ROUNDS) $(if $(SEED),-seed $(SEED))
	go run ./cmd/torture -of external -rounds $(ROUNDS) $(if $(SEED),-seed $(SEED))
	go run ./cmd/torture -of cluster -rounds $(ROUNDS) $(if $(SEED),-seed $(SEED))

.PHONY: bench-start
bench-start: build tools images $(STAMPS)/kubectl ## measure start, apply to running, and idle cost; needs root and a quiet machine
	go test -tags e2e -run '^$$' -bench 'Start|Apply' -benchtime 5x -timeout $(TIMEOUT) ./cmd/reprise/e2e
	go test -tags e2e -run '^$$' -bench Idle -benchtime 1x -timeout $(TIMEOUT) ./cmd/reprise/e2e

# What the load benchmarks run, and how often by turns: see go doc ./cmd/load.
BOTH := deploy:2000/200,deploy:20000/1000,rolling:5000/250,failure:2000/200,watchers:200/200
bench: SCENARIOS ?= $(BOTH),deploy:100000/5000
bench-peer: SCENARIOS ?= $(BOTH)
bench bench-peer: ROUNDS ?= 1

.PHONY: bench
bench: dist/bin/reprise dist/bin/bench ## put load on a cluster of hollow nodes and measure what it costs; takes some minutes, and 8 GB
	dist/bin/bench $(if $(DIR),-dir "$(DIR)") -scenario $(SCENARIOS) -rounds $(ROUNDS) -o dist/bench.json

.PHONY: bench-peer
bench-peer: dist/bin/reprise dist/bin/bench $(PEER_TOOLS:%=$(STAMPS)/%) ## the same by turns with upstream's Kubernetes and etcd; the first time builds them
	dist/bin/bench $(if $(DIR),-dir "$(DIR)") -sides reprise,upstream -scenario $(SCENARIOS) -rounds $(ROUNDS) -o dist/bench-peer.json

EVENTS ?= 1000000

.PHONY: bench-history
bench-history: ## measure what the past costs on a log of EVENTS events (a million): questions, rebuild, verify, export, subscribers
	go test -run '^$$' -bench . -benchtime 1000000x -timeout $(TIMEOUT) ./events/eventsgen
	go test -run '^$$' -bench 'History(Object|Why|Sequence)' -benchtime 1000x -timeout $(TIMEOUT) ./projections/pebble -events $(EVENTS)
	go test -run '^$$' -bench 'History(List|State|Events|Load)' -benchtime 10x -timeout $(TIMEOUT) ./projections/pebble -events $(EVENTS)
	go test -run '^$$' -bench 'Rebuild' -benchtime 1x -timeout $(TIMEOUT) ./projections/pebble -events $(EVENTS)
	go test -run '^$$' -bench 'Verify' -benchtime 1x -timeout $(TIMEOUT) ./cmd/reprise
	go test -run '^$$' -bench 'Audit|Write|Check' -benchtime 5x -timeout $(TIMEOUT) ./events/jetstream/blocks ./events/archive
	go test -run '^$$' -bench 'Subscribers' -benchtime 1x -timeout $(TIMEOUT) ./events/jetstream

.PHONY: bench-durable
bench-durable: ## measure durable writes a second beside etcd's on the disk of DIR (/tmp), 1 and 256 writers by turns
	cd cmd/tools/durable && go run -mod=mod . -dir "$(DIR)"

.PHONY: lint
lint: ## check the format, the architecture and what the compiler lets pass
	@unformatted=$$(gofmt -l agents cmd events projections schemas); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w these: $$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags e2e ./agents/node/... ./cmd/reprise/... ./cmd/torture/...
	cd cmd/tools/containerd && go vet ./...
	go test ./cmd/lint

.PHONY: schemas
schemas: ## write the schemas of the events anew, after a change of the owners table
	go generate ./schemas

.PHONY: clean
clean: ## remove what was built; a running cluster keeps its data (see reprise down)
	rm -rf dist

dist/bin/reprise: $(SOURCES) $(STAMPS)/machine
	@echo "building   reprise $(VERSION); the first time takes some minutes"
	go build -ldflags '$(LDFLAGS)' -o $@.new ./cmd/reprise
	@mv -f $@.new $@

dist/bin/bench: $(SOURCES)
	go build -ldflags '-s -w' -o $@ ./cmd/bench

dist/images/pause.tar: $(filter agents/node/images/% cmd/pause/% cmd/demo/% cmd/tools/images/%,$(SOURCES)) go.mod $(STAMPS)/machine
	@echo "building   images"
	go build -ldflags '-s -w' -o dist/images/bin/ ./cmd/pause ./cmd/demo
	go run ./cmd/tools/images -binaries dist/images/bin -busybox "$$(command -v busybox)" -to dist/images

$(STAMPS)/machine: cmd/tools/require.sh
	@cmd/tools/require.sh nft=nftables ip=iproute2 gcc=gcc /usr/include/stdlib.h=libc6-dev \
		pkg-config=pkg-config /usr/include/seccomp.h=libseccomp-dev busybox=busybox-static \
		mount=mount /etc/ssl/certs/ca-certificates.crt=ca-certificates
	@mkdir -p $(@D) && touch $@

$(STAMPS)/%: cmd/tools/%/go.mod cmd/tools/%/go.sum cmd/tools/build.sh $(wildcard cmd/tools/containerd/shim/*.go) $(STAMPS)/machine
	@cmd/tools/build.sh $*
	@touch $@

$(STAMPS)/disk: cmd/tools/require.sh
	@cmd/tools/require.sh mkfs.ext4=e2fsprogs losetup=mount
	@mkdir -p $(@D) && touch $@

$(STAMPS)/javascript: $(wildcard docs/examples/subscribe/javascript/*) $(STAMPS)/machine
	@cmd/tools/require.sh node=nodejs npm=npm
	@echo "  javascript the client of NATS, for the tests"
	@mkdir -p dist/javascript && cp docs/examples/subscribe/javascript/* dist/javascript/
	@cd dist/javascript && npm ci --silent --no-audit --no-fund
	@touch $@

$(STAMPS)/asyncapi: $(wildcard cmd/tools/asyncapi/*) $(STAMPS)/machine
	@cmd/tools/require.sh node=nodejs npm=npm
	@echo "  asyncapi   the schema of AsyncAPI, for the tests"
	@mkdir -p dist/asyncapi && cp cmd/tools/asyncapi/* dist/asyncapi/
	@cd dist/asyncapi && npm ci --silent --no-audit --no-fund
	@touch $@
