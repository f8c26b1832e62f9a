# The guest binaries that the host binary embeds (internal/image/payload).
#
#   payload        builds all of them
#   payload-clean  removes them

PAYLOAD := internal/image/payload

# Where the distribution's statically linked busybox is (package busybox-static).
BUSYBOX ?= /bin/busybox

GUEST_CC     ?= gcc
GUEST_CFLAGS ?= -static -Os -Wall -Wextra -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections
GUEST_LDFLAGS ?= -Wl,--gc-sections -Wl,-z,norelro -s

AGENT_INIT_SRC := $(wildcard internal/agent/init/*.c)
AGENT_INIT_HDR := $(wildcard internal/agent/init/*.h)
EXECUTOR_SRC   := $(wildcard internal/agent/executor/program/*.c)
EXECUTOR_HDR   := $(wildcard internal/agent/executor/program/*.h)
AGENT_GO_SRC   := $(shell find cmd/provium-agent internal/agent internal/wire internal/msgpack -name '*.go' ! -name '*_test.go' ! -path '*/agenttest/*' 2>/dev/null)

.PHONY: payload payload-clean

payload: $(PAYLOAD)/agent $(PAYLOAD)/init $(PAYLOAD)/executor $(PAYLOAD)/busybox $(PAYLOAD)/busybox.applets

$(PAYLOAD)/agent: $(AGENT_GO_SRC) go.mod go.sum | setup
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 "$(GO)" build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o $@ ./cmd/provium-agent

$(PAYLOAD)/init: $(AGENT_INIT_SRC) $(AGENT_INIT_HDR) | setup
	@test -n "$(AGENT_INIT_SRC)" || { echo "no sources in internal/agent/init" >&2; exit 1; }
	$(GUEST_CC) $(GUEST_CFLAGS) $(GUEST_LDFLAGS) -o $@ $(AGENT_INIT_SRC)

$(PAYLOAD)/executor: $(EXECUTOR_SRC) $(EXECUTOR_HDR) | setup
	@test -n "$(EXECUTOR_SRC)" || { echo "no sources in internal/agent/executor/program" >&2; exit 1; }
	$(GUEST_CC) $(GUEST_CFLAGS) -pthread $(GUEST_LDFLAGS) -o $@ $(EXECUTOR_SRC)

# A dynamic busybox could not run in the built-in initrd, which has no libraries.
# Its shell prefers its own commands to those of PATH. Its dd cannot do direct I/O
# to disks (internal/agent/init/dd.c), so that one entry of its list of names gives
# way; the list stays sorted, which busybox relies on.
$(PAYLOAD)/busybox: $(BUSYBOX) payload.mk
	@if LC_ALL=C readelf -l $< | grep -q INTERP; then \
		echo "$< is dynamically linked: install the package busybox-static, or set BUSYBOX=PATH" >&2; exit 1; \
	fi
	LC_ALL=C sed 's/\x00dc\x00dd\x00dea/\x00dc\x00de\x00dea/' $< > $@.tmp && chmod 0755 $@.tmp && mv $@.tmp $@

$(PAYLOAD)/busybox.applets: $(PAYLOAD)/busybox
	$< --list-full > $@.tmp && mv $@.tmp $@

$(BUSYBOX): | setup
	@[ -e $@ ] || { echo "$@ is missing: install the package busybox-static, or set BUSYBOX=PATH" >&2; exit 1; }

payload-clean:
	rm -f $(PAYLOAD)/agent $(PAYLOAD)/init $(PAYLOAD)/executor $(PAYLOAD)/busybox $(PAYLOAD)/busybox.applets
