# make demo   installs, builds, boots a guest and runs the examples
# make test   installs and runs all tests
# make build  bin/provium   make bench  figures   make lint  checks

SHELL := /bin/sh
GO = $(shell scripts/find-go)
BIN := bin/provium
# Go rebuilds what changed by itself: these targets always ask it.
.PHONY: all setup build demo test test-go test-guest bench lint clean

all: build

include payload.mk

setup:
	@scripts/setup

build: setup payload
	@GO="$(GO)"; "$$GO" build -trimpath -o $(BIN) ./cmd/provium
	@$(BIN) image overlay dist/agent-overlay.cpio.gz >/dev/null

demo: build
	@scripts/demo

test: build lint test-go test-guest

# The unit tests, with the race detector.
test-go: setup payload
	GO="$(GO)"; "$$GO" test -race ./...
	GO="$(GO)"; scripts/coverage "$$GO"

# The Lua suites, run by our own binary on real guests.
test-guest: build
	scripts/test-guest

lint: setup payload
	GO="$(GO)"; scripts/lint "$$GO"

bench: build
	scripts/bench "$(GO)"

clean:
	rm -rf bin dist internal/image/payload/provium-agent internal/image/payload/busybox*
