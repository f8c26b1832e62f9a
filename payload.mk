# What the host binary embeds: the guest binaries (internal/image/payload), the library
# that it preloads into QEMU (internal/forkserver/payload), and the plugin of deterministic
# guests (internal/syncpoint/payload).
#
#   payload        builds all of them
#   payload-clean  removes them

PAYLOAD := internal/image/payload

FORKSERVER := internal/forkserver/payload/forkserver.so
FORKSERVER_SRC := internal/forkserver/program/forkserver.c internal/forkserver/program/template.c \
	internal/forkserver/program/threads.c

# One for each version of QEMU's plugin interface.
SYNCPOINT     := internal/syncpoint/payload/syncpoint-1.so internal/syncpoint/payload/syncpoint-4.so
SYNCPOINT_SRC := internal/syncpoint/program/syncpoint.c
SYNCPOINT_HDR := internal/syncpoint/program/disks.h

HOST_CC     ?= gcc
HOST_CFLAGS ?= -O2 -Wall -Wextra

# Where the distribution's statically linked busybox is (package busybox-static).
BUSYBOX ?= /bin/busybox

GUEST_CC     ?= gcc
# At -Os, gcc makes `rep movsb` of memcpy, which an emulated guest carries out byte by byte: the C library's is ten
# times as fast.
GUEST_CFLAGS ?= -static -Os -Wall -Wextra -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections \
	-fno-builtin-memcpy -fno-builtin-memset
GUEST_LDFLAGS ?= -Wl,--gc-sections -Wl,-z,norelro -Wl,-z,noexecstack -s

# provium-agent is one file: a C program, and the agent at the addresses where Go puts
# it, from 0x400000 on. The C program ends before them.
AGENT_C_SRC := $(wildcard internal/agent/init/*.c internal/agent/executor/program/*.c)
AGENT_ENTER := internal/agent/init/enter
AGENT_C_HDR := $(wildcard internal/agent/init/*.h internal/agent/executor/program/*.h)
AGENT_EMBED := internal/agent/init/embed.sh
AGENT_C_AT  := 0x200000
AGENT_PARTS := dist/payload
FOREIGN_AGENTS := $(PAYLOAD)/provium-agent-arm64.zst $(PAYLOAD)/provium-agent-riscv64.zst
AGENT_GO_SRC   := $(shell find cmd/provium-agent internal/agent internal/wire internal/msgpack \( -name '*.go' -o -name '*.s' \) ! -name '*_test.go' ! -path '*/agenttest/*' 2>/dev/null)

.PHONY: payload payload-clean

payload: $(PAYLOAD)/provium-agent $(FOREIGN_AGENTS) $(PAYLOAD)/busybox $(PAYLOAD)/busybox.applets $(FORKSERVER) $(SYNCPOINT)

$(FORKSERVER): $(FORKSERVER_SRC) $(dir $(firstword $(FORKSERVER_SRC)))forkserver.h payload.mk | setup
	$(HOST_CC) $(HOST_CFLAGS) -shared -fPIC -s -o $@ $(FORKSERVER_SRC)

internal/syncpoint/payload/syncpoint-%.so: $(SYNCPOINT_SRC) $(SYNCPOINT_HDR) payload.mk | setup
	$(HOST_CC) $(HOST_CFLAGS) -DAPI=$* -fvisibility=hidden -shared -fPIC -s -o $@ $<

$(AGENT_PARTS)/agent: $(AGENT_GO_SRC) go.mod go.sum | setup
	@mkdir -p $(AGENT_PARTS)
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 "$(GO)" build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" -o $@ ./cmd/provium-agent

# The other names are those of a checkout that was built before it was one file.
$(PAYLOAD)/provium-agent: $(AGENT_PARTS)/agent $(AGENT_C_SRC) $(AGENT_C_HDR) $(AGENT_ENTER)-amd64.S $(AGENT_EMBED) \
		payload.mk | setup
	@rm -f $(PAYLOAD)/agent $(PAYLOAD)/init $(PAYLOAD)/executor
	$(AGENT_EMBED) $< $(AGENT_PARTS)/embedded 4096
	$(GUEST_CC) $(GUEST_CFLAGS) -pthread -o $@ $(AGENT_C_SRC) $(AGENT_ENTER)-amd64.S $(AGENT_PARTS)/embedded.S \
		-Wl,-Ttext-segment=$(AGENT_C_AT) -Wl,-T,$(AGENT_PARTS)/embedded.ld $(GUEST_LDFLAGS)

# The agents of other architectures, compressed. Their Go program begins at 0x410000: behind
# the C program by more than the largest page of a kernel.
$(PAYLOAD)/provium-agent-arm64.zst: CROSS := aarch64-linux-gnu-gcc
$(PAYLOAD)/provium-agent-arm64.zst: PAGE := 65536
$(PAYLOAD)/provium-agent-riscv64.zst: CROSS := riscv64-linux-gnu-gcc
$(PAYLOAD)/provium-agent-riscv64.zst: PAGE := 4096

$(PAYLOAD)/provium-agent-%.zst: $(AGENT_GO_SRC) go.mod go.sum $(AGENT_C_SRC) $(AGENT_C_HDR) $(AGENT_ENTER)-%.S \
		$(AGENT_EMBED) payload.mk | setup
	@mkdir -p $(AGENT_PARTS)
	CGO_ENABLED=0 GOOS=linux GOARCH=$* "$(GO)" build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -T 0x411000" \
		-o $(AGENT_PARTS)/agent-$* ./cmd/provium-agent
	$(AGENT_EMBED) $(AGENT_PARTS)/agent-$* $(AGENT_PARTS)/embedded-$* $(PAGE)
	$(CROSS) $(GUEST_CFLAGS) -pthread -o $(AGENT_PARTS)/whole-$* $(AGENT_C_SRC) $(AGENT_ENTER)-$*.S \
		$(AGENT_PARTS)/embedded-$*.S -Wl,-Ttext-segment=$(AGENT_C_AT) -Wl,-T,$(AGENT_PARTS)/embedded-$*.ld $(GUEST_LDFLAGS)
	zstd -q -f -12 $(AGENT_PARTS)/whole-$* -o $@

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
	rm -rf $(PAYLOAD)/provium-agent $(FOREIGN_AGENTS) $(PAYLOAD)/busybox $(PAYLOAD)/busybox.applets $(FORKSERVER) $(SYNCPOINT) \
		$(AGENT_PARTS)
