# Two commands do everything for a newcomer: make run, make test.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUILD_PACKAGES := build-essential cmake pkg-config ca-certificates curl
TEST_PACKAGES := $(BUILD_PACKAGES) chromium chromium-driver sip-tester baresip-core nats-server postgresql coturn sox \
	flac opus-tools nftables iproute2 iptables procps pebble systemd
CONFIG ?=
# All stories, or those of one file: `make e2e STORIES=recording::`.
STORIES ?=

.PHONY: help run test soak fuzz bench packages test-packages pages build web-test e2e

help:
	@echo "make run                 build in release and start everything on loopback"
	@echo "make test                install what the tests need and run everything"
	@echo "make soak                the long forms of the same tests"
	@echo "make fuzz SECONDS=60     every fuzz target for that long (nightly toolchain)"
	@echo "make bench BENCH=forward one bench: name, value, unit (forward, turn)"

packages:
	@scripts/install $(BUILD_PACKAGES)

test-packages:
	@scripts/install $(TEST_PACKAGES)

pages:
	@scripts/pages

run: packages pages
	cargo build --release --locked -p offhook
	exec target/release/offhook up --dev $(if $(CONFIG),--config $(CONFIG))

# Every test of `cargo test` and the program that the stories start; the stories themselves are compiled where they run.
# One selection of packages, here and in all of `make test`: cargo unites the features of what is selected, and another
# selection compiles half of the dependencies once more.
build:
	cargo build --locked --workspace --tests --bin offhook

# The order puts what fails fastest first.
test: test-packages pages
	cargo fmt --all --check
	cargo run --locked --quiet -p xtask -- tidy
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(MAKE) web-test
	$(MAKE) build
	cargo test --locked --workspace
	$(MAKE) e2e

web-test:
	cd web && npm test --silent

e2e:
	cd tests/browser && { [ -e node_modules/.installed ] && [ ! package-lock.json -nt node_modules/.installed ] || { npm ci --no-audit --no-fund --loglevel=error && touch node_modules/.installed; }; }
	$(MAKE) build
	cargo test --locked --workspace --test daemons
	cargo test --locked --workspace --test e2e -- --test-threads=1 $(STORIES)

soak: test-packages pages
	$(MAKE) build
	OFFHOOK_LONG=1 cargo test --locked --workspace
	OFFHOOK_LONG=1 $(MAKE) e2e

SECONDS ?= 60
fuzz: packages
	@cargo +nightly fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	@cd fuzz && for target in $$(cargo +nightly fuzz list); do \
	  mkdir -p corpus/$$target; \
	  seeds=seeds/$$target; [ -d $$seeds ] || seeds=; \
	  dict=dict/$$target.dict; [ -e $$dict ] && dict=-dict=$$dict || dict=; \
	  cargo +nightly fuzz run $$target corpus/$$target $$seeds -- -max_total_time=$(SECONDS) $$dict; \
	done

bench: packages
	@[ -n "$(BENCH)" ] || { echo "make bench BENCH=forward"; exit 2; }
	@cargo build --release --locked --quiet -p offhook -p offhook-turn -p offhook-benches
	@exec "$${CARGO_TARGET_DIR:-target}/release/offhook-benches" $(BENCH)
