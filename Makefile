# Everything a person or CI does here. "make help" lists it.

GO      ?= go
GUEST   := bin/guest
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/snapd-agent
TESTLOG := .testlog

.DEFAULT_GOAL := build
.PHONY: help build deb man demo test test-fast test-host test-guest test-long test-long-lvm lint bench fmt clean guest guest-shell guest-run guest-clean FORCE

help: ## say what make can do
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

build: ## build bin/snapd, one static binary
	@echo "Building bin/snapd" >&2
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/snapd ./cmd/snapd

deb: ## build bin/snapd-agent.deb, the same bytes from the same tree
	@scripts/deb

man: build ## write the manual pages to bin/man
	bin/snapd man bin/man

demo: build ## show the main job on a real Btrfs (root; S3=1 ships to a real MinIO, JSON=1 prints one document)
	@scripts/host-packages demo
	@$(if $(S3),SNAPD_DEMO_MINIO="$$(scripts/minio)") bin/snapd demo $(if $(JSON),--json)

# MinIO and the guest's image are made while the plain tests run, where they are not
# there yet: that takes a quarter of an hour. What goes wrong with it is told below,
# where they are needed.
test: $(GUEST) ## everything that must pass before a change lands (root)
	@scripts/host-packages test
	@mkdir -p $(TESTLOG)
	@{ nice scripts/minio; nice $(GUEST) build; } >$(TESTLOG)/made.log 2>&1 &
	@scripts/test plain -race
	@SNAPD_MINIO="$$(scripts/minio)" scripts/test host
	@$(MAKE) --no-print-directory test-guest
	@scripts/test-slice

test-fast: ## the tests that need no root, in seconds
	@scripts/test plain

test-host: ## the tests on real Btrfs, Docker and MinIO (root)
	@scripts/host-packages test
	@SNAPD_MINIO="$$(scripts/minio)" scripts/test host

test-guest: $(GUEST) ## the tests in and around a disposable guest machine (root)
	@$(GUEST) test

test-long: $(GUEST) ## long matrices: kills at every step, 160 restored points of databases, ZFS streams cut at 250 places (root, hours); SLICE=n: one slice of them
	@scripts/host-packages test
ifdef SLICE
	@scripts/test-slice $(SLICE)
else
	@SNAPD_MINIO="$$(scripts/minio)" scripts/test host -tags 'host long' -run 'TestBig|TestKill|TestLong' -timeout 90m
	@$(GO) test -count=1 -tags long -run 'TestHistories' -timeout 240m ./internal/ship
	@$(GO) test -tags 'guest long' -exec '$(CURDIR)/$(GUEST) exec' -run 'TestFilesystems' -timeout 60m -v ./internal/freeze
	@$(GO) test -tags 'guest long' -exec "$(CURDIR)/$(GUEST) exec" -run 'TestResumeMatrix|TestContinueMatrix|TestZFSKilledOften|TestZFSVolumeStandsStill|TestChain|TestEncrypted|TestVolume|TestReplaceNested|TestTwoHundred' -timeout 120m ./internal/fs/zfs ./cmd/snapd
	@$(GO) test -tags 'outside long' -run 'TestZFSPowerCuts' -timeout 60m ./cmd/snapd
	@$(GO) test -count=1 -tags 'outside long' -timeout 90m ./packaging
	@$(MAKE) --no-print-directory test-long-lvm
endif

test-long-lvm: $(GUEST) ## the long matrices of LVM alone: the contracts, full pools, ten increments, twenty kills, five power cuts, the whole way (three hours)
	@$(GO) test -tags 'guest long' -exec "$(CURDIR)/$(GUEST) exec" -run 'TestLong' -timeout 240m ./internal/fs/lvm
	@$(GO) test -tags 'outside long' -run 'TestLong' -timeout 60m ./internal/fs/lvm

lint: ## all linters, module tidiness, known vulnerabilities
	@scripts/lint

bench: build ## side-by-side measurements on this machine (root); see bench/README.md
	@scripts/host-packages bench
	@SNAPD_MINIO="$$(scripts/minio)" bench/run

guest: $(GUEST) ## make the disposable guest machine for tests, unless it is there
	@$(GUEST) build

guest-shell: $(GUEST) ## a shell in a fresh guest machine
	@$(GUEST) shell

guest-run: $(GUEST) ## run CMD in a fresh guest machine, with the files PUSH in /root
	@$(GUEST) run $(foreach file,$(PUSH),-push $(file)) '$(subst ','\'',$(CMD))'

guest-clean: $(GUEST) ## remove the guest's images and saved states
	@$(GUEST) clean

$(GUEST): FORCE
	@$(GO) build -o $@ ./internal/vmtest/cmd/guest

FORCE:

fmt: ## format the code
	gofmt -w cmd internal

clean: ## remove what was built
	rm -rf bin $(TESTLOG)
