# make demo   installs, builds, boots a guest and runs the examples
# make test   installs and runs all tests
# make test-full   those and the heavy ones, also on Debian 13's QEMU
# make test-qemu QEMU=PATH   runs all that boots guests on another QEMU (Debian 13's)
# make build  bin/provium, bin/provium-coverage   make bench  figures   make lint  checks
# make soak   random acts in guests for ten minutes, or SECONDS=N; GUESTS=N ends it after N guests
# make reference writes docs/reference   make site  dist/site, docs/ as a site
# make fuzz   all fuzz targets, five minutes each at most
# make verify kills, hostile guests, failing calls, damaged caches: docs/reliability.md

SHELL := /bin/sh
GO = $(shell scripts/find-go)
BIN := bin/provium
# Go rebuilds what changed by itself: these targets always ask it.
.PHONY: reference site all setup build demo test test-full test-go test-guest test-smoke test-qemu newer-qemu bench verify soak fuzz lint clean

all: build

include payload.mk

setup:
	@scripts/setup

build: setup payload
	@GO="$(GO)"; "$$GO" build -trimpath -o $(dir $(BIN)) ./cmd/provium ./cmd/provium-coverage
	@$(BIN) image overlay dist/agent-overlay.cpio.gz >/dev/null
	@$(BIN) man dist/man >/dev/null

demo: build
	@scripts/demo

# Checks and unit tests run beside the guest suites.
test: build newer-qemu
	@scripts/test "$(GO)"

# With what is too heavy for every day: tests with meta.slow, unit tests of which `make test`
# runs a sample, and all suites on another QEMU.
test-full: export PROVIUM_SETUP_FULL = 1
test-full: build newer-qemu
	@PROVIUM_TEST_FULL=1 scripts/test "$(GO)" --include-slow
	scripts/test-qemu "$(QEMU)" "$(GO)" --include-slow

# The unit tests, with the race detector.
test-go: setup payload
	GO="$(GO)"; scripts/test-go "$$GO"

# The Lua suites, run by our own binary on real guests.
test-guest: build
	scripts/test-guest

# The QEMU of Debian 13, unpacked beside the system's. Other systems than Debian may not
# know where to get it: what needs it is skipped there.
NEWER_QEMU := dist/qemu-trixie/qemu-system-x86_64
newer-qemu: setup
	@scripts/unpack-qemu trixie dist/qemu-trixie >/dev/null || [ $$? -eq 3 ]

# Every capability that depends on QEMU, on the newer one.
test-smoke: build newer-qemu
	@scripts/test-smoke

QEMU ?= $(NEWER_QEMU)
test-qemu: build newer-qemu
	scripts/test-qemu "$(QEMU)" "$(GO)"

lint: setup payload
	GO="$(GO)"; scripts/lint "$$GO"

bench: build
	scripts/bench "$(GO)"

# VERIFY="kills=20 hostile" runs parts, and fewer times; without it all is tried. The page gets
# the new figures.
verify: build
	PATH="$$(dirname "$(GO)"):$$PATH" "$(GO)" run -tags verify ./verify $(VERIFY) report=docs/reliability.md

# Random acts in guests, for ten minutes.
SECONDS = 600
soak: build
	PATH="$$(dirname "$(GO)"):$$PATH" "$(GO)" run -tags verify ./verify soak seconds=$(SECONDS) $(if $(GUESTS),guests=$(GUESTS))

# Every fuzz target until 1000000 executions or for five minutes; FUZZ=PATTERN chooses, as in FUZZ=wire/. It continues
# where it was interrupted.
FUZZ_SECONDS = 300
FUZZ = .
fuzz:
	@scripts/fuzz $(FUZZ_SECONDS) 1000000 '$(FUZZ)'

# A site of docs/ that can be searched without a network, also from a disk. It needs Debian's
# python3-sphinx, python3-myst-parser and furo. Its links are followed, and it is used in a
# browser, if chromium is installed.
site:
	@scripts/site dist/site
	@PROVIUM_SITE="$(CURDIR)/dist/site" "$(GO)" test -count=1 ./tests/site

# The pages in docs/reference, from the description of the Lua API.
reference: setup
	GO="$(GO)"; "$$GO" run ./internal/luaapi/pages docs/reference

clean:
	rm -rf bin dist internal/image/payload/provium-agent* internal/image/payload/busybox* internal/forkserver/payload/*.so internal/syncpoint/payload/*.so
