# `make` alone lists what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/sh

GO ?= go
FUZZTIME ?= 20s
SOAK ?= 1h
BENCH ?= .
RACE ?= ./...
SERVERS ?= debian 2.10.29 2.11.17 2.12.15 2.14.9 rest-server-0.14.0
JETSAM_OLD_SERVERS ?= $(HOME)/.cache/jetsam-servers
export JETSAM_OLD_SERVERS
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unversioned)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/jetsam for this machine
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X jetsam/cmd/jetsam/command.build=$(VERSION)' -o bin/ ./cmd/jetsam

.PHONY: demo
demo: ## show the whole round trip: a server, backups, a purge undone, a restore, a comparison
	$(GO) run ./cmd/jetsam demo

.PHONY: test
test: ## run all tests; needs nothing but Go
	@command -v restic >/dev/null || echo 'restic is not installed: the tests that hold our repositories against it are skipped'
	@ls $(JETSAM_OLD_SERVERS)/nats-server-* >/dev/null 2>&1 || echo 'there are no older nats-servers: the tests that start them are skipped; `make servers` gets them'
	@ls $(JETSAM_OLD_SERVERS)/rest-server-* >/dev/null 2>&1 || echo 'there is no rest-server: the tests that start it are skipped; `make servers` gets it'
	@for p in rclone ssh sshd; do PATH=$$PATH:/usr/sbin command -v $$p >/dev/null || echo "$$p is not installed: the tests that run it are skipped"; done
	$(GO) test -parallel 4 -timeout 30m ./...

.PHONY: race
race: ## run the tests with the race detector; needs a C compiler (RACE=./... for which packages)
	CGO_ENABLED=1 $(GO) test -race -timeout 30m $(RACE)

.PHONY: interop
interop: ## run the tests that involve the real restic, which must be installed
	@command -v restic >/dev/null || { echo 'restic is not installed: apt-get install restic, brew install restic, …' >&2; exit 1; }
	CI=true $(GO) test -count=1 -timeout 20m ./repo/... ./cmd/... ./tests/...

.PHONY: servers
servers: ## get the older nats-servers and the REST server (SERVERS="2.10.29 rest-server-0.14.0") that tests start, into JETSAM_OLD_SERVERS
	GO='$(GO)' scripts/servers.sh '$(JETSAM_OLD_SERVERS)' $(SERVERS)

.PHONY: matrix
matrix: servers ## back up from servers of each release and restore to each, and everything else that starts older ones (some minutes)
	CI=true JETSAM_PROOF=1 $(GO) test -count=1 -timeout 60m -run OldServers -v ./tests

.PHONY: backends
backends: ## get real servers that keep objects (minutes, once), into JETSAM_OLD_SERVERS, and run the tests of storage on them
	GO='$(GO)' scripts/backends.sh '$(JETSAM_OLD_SERVERS)'
	JETSAM_BACKENDS=1 $(GO) test -count=1 -timeout 20m ./storage/...
	JETSAM_BACKENDS=1 $(GO) test -count=1 -timeout 20m -run 'TestS3|TestAzure|TestGoogle' ./tests

.PHONY: proof
proof: ## run the suites of crashes, damage, faults and kills in full length (an hour or so)
	JETSAM_PROOF=1 $(GO) test -count=1 -timeout 120m ./...

.PHONY: mutants
mutants: ## break promises one at a time, and see that a test fails each time
	$(GO) run ./scripts/mutants

.PHONY: soak
soak: ## run random operations against a model for SOAK (1h); JETSAM_SEED=N repeats a run
	JETSAM_SOAK=$(SOAK) $(GO) test -count=1 -timeout 0 -v -run 'Stress|Model|ManyAtOnce|ManyWithoutLocks' ./repo ./tests

.PHONY: lint
lint: ## gofmt, go vet here and as Windows and macOS see it, staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not formatted with gofmt:" $$unformatted >&2; exit 1; }
	$(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: licenses
licenses: ## check the licences of everything the program is built from
	$(GO) run ./scripts/licenses

.PHONY: fuzz
fuzz: ## run every fuzz target of every package for FUZZTIME (20s)
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## run the benchmarks (BENCH=regexp for some, JETSAM_BENCH_MIB=64 for less data)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m ./...

.PHONY: cover
cover: ## how much of the code the tests reach (cover.out)
	$(GO) test -timeout 20m -coverpkg=./... -coverprofile=cover.out ./...
	@$(GO) tool cover -func=cover.out | tail -n 1

.PHONY: release
release: ## build dist/ for linux, darwin and windows, amd64 and arm64, with checksums
	scripts/release.sh '$(VERSION)' dist

.PHONY: reproducible
reproducible: ## build twice, in different folders and once with nothing cached, and compare the bytes
	scripts/reproducible.sh '$(VERSION)'

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist cover.out
