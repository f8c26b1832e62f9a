package instance

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"provium/internal/fakemachine"
	"provium/internal/guest"
	"provium/internal/guestmem/fakekernel"
	"provium/internal/inspect"
)

// registersOf is how QEMU prints a CPU whose page tables are a fake kernel's.
func registersOf(flags uint64, halted int) string {
	return fmt.Sprintf("\r\nCPU#0\r\nRIP=ffffffff80001234 RFL=%08x [-------] CPL=0 II=0 A20=1 SMM=0 HLT=%d\r\n"+
		"CR0=80050033 CR2=0000000000000000 CR3=%016x CR4=00750ef0\r\n", flags, halted, fakeBase+fakekernel.CR3)
}

const (
	fakeBase   = 16 << 20
	interrupts = 0x200
)

// putKernel puts a kernel with these messages into a guest's memory, and has its CPU run it.
func putKernel(t *testing.T, m *fakemachine.Machine, texts ...string) {
	t.Helper()
	k := fakekernel.Kernel{Base: fakeBase}
	for i, text := range texts {
		k.Messages = append(k.Messages, fakekernel.Message{NS: uint64(i) * 1e9, Text: text})
	}
	if err := m.WriteMemory(k.Base, k.Memory()); err != nil {
		t.Fatal(err)
	}
	m.SetRegisters(registersOf(interrupts, 0))
}

const fatal = "Kernel panic - not syncing: Fatal exception"

// TestPanicInLog has a guest whose console does not show its panic, which the device pvpanic
// or nobody reports. The kernel's log has it.
func TestPanicInLog(t *testing.T) {
	t.Run("event", func(t *testing.T) {
		b := newBench(t)
		i, m := b.boot()
		putKernel(t, m, "Linux version 6.1", fatal)
		m.Event("GUEST_PANICKED", map[string]any{"action": "pause"})
		b.wantDeath(i, "guest panicked: ", "Fatal exception")
		if log, err := i.cfg.Inspect.KernelLog(t.Context()); err != nil || len(log) != 2 {
			t.Errorf("%v, %v", log, err)
		}
	})
	t.Run("event without a log", func(t *testing.T) {
		b := newBench(t)
		i, m := b.boot()
		m.Event("GUEST_PANICKED", map[string]any{"action": "pause"})
		b.wantDeath(i, "guest panicked")
	})
	t.Run("event of an expected panic", func(t *testing.T) {
		b := newBench(t)
		b.expects = true
		i, m := b.boot()
		putKernel(t, m, fatal)
		m.Event("GUEST_PANICKED", map[string]any{"action": "pause"})
		m.Event("RESET", map[string]any{"guest": true})
		if err := i.WaitReboot(t.Context(), patience); err != nil {
			t.Error(err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		b := newBench(t)
		b.cfg.Watch = guest.Watch{Limit: time.Hour, Probe: 10 * time.Millisecond}
		i, m := b.boot()
		link, err := i.Client(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		putKernel(t, m, "Linux version 6.1", fatal)
		m.SetAgent(fakemachine.AgentSilent)
		m.StopAgent()
		_, err = link.ReadFile(t.Context(), stampsFile)
		if err == nil || !strings.Contains(err.Error(), "guest panicked: ") {
			t.Error(err)
		}
		b.wantDeath(i, "guest panicked: ", "Fatal exception")
	})
	t.Run("console", func(t *testing.T) { // the log is believed at once
		b := newBench(t)
		b.cfg.PanicGrace = time.Hour
		i, m := b.boot()
		putKernel(t, m, "Linux version 6.1", fatal)
		m.SetAgent(fakemachine.AgentSilent)
		m.StopAgent()
		m.Print(false, "[    1.000000] "+fatal+"\n[    1.000001] ---[ end "+fatal+" ]---\n")
		b.wantDeath(i, "guest panicked: ", "Fatal exception")
	})
}

// TestCoreOfADeadGuest has the memory of a guest kept that panics.
func TestCoreOfADeadGuest(t *testing.T) {
	b := newBench(t)
	b.cfg.Inspect = &inspect.Guest{DumpDir: t.TempDir()}
	i, m := b.boot()
	putKernel(t, m, "Linux version 6.1", fatal)
	m.Event("GUEST_PANICKED", map[string]any{"action": "pause"})
	b.wantDeath(i, "guest panicked: ")
	var packed bytes.Buffer
	if err := b.cfg.Inspect.TakeCore(t.Context(), &packed); err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(&packed)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	core, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(core))
	if err != nil {
		t.Fatal(err)
	}
	start := make([]byte, 10)
	if _, err := f.Progs[1].ReadAt(start, fakeBase+0x5000); err != nil || string(start) != "OSRELEASE=" {
		t.Errorf("%q, %v", start, err)
	}
	if !bytes.Contains(core[:0x1000], []byte("VMCOREINFO")) {
		t.Error("the kernel's note is missing")
	}
	if b.cfg.Inspect.HasCore() {
		t.Error("it can be taken twice")
	}
}

// TestHalt has a guest say that it halts: it has when its CPUs have, for ever.
func TestHalt(t *testing.T) {
	b := newBench(t)
	b.cfg.Grace = patience
	i, m := b.boot()
	m.SetRegisters(registersOf(interrupts, 1)) // idle
	m.Print(false, "[    1.000000] "+haltWords+"\n")
	i.SyncConsole()
	link, err := i.Client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.SetRegisters(registersOf(0, 1))
	b.wantDeath(i, guestHalted)
}

// TestHaltIsNotBelieved has somebody print a kernel's words in a guest that lives.
func TestHaltIsNotBelieved(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	m.SetRegisters(registersOf(0, 0))
	m.Print(false, haltWords+"\n")
	i.SyncConsole()
	for { // until it is no longer looked at
		i.mu.Lock()
		halting := i.halting
		i.mu.Unlock()
		if !halting {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if link, err := i.Client(t.Context()); err != nil || link.Ping(t.Context()) != nil {
		t.Error("the guest is dead:", err)
	}
}

// TestPanicLeavesTheConsole has the end of a guest take long that has panicked, as where its
// memory is kept: who asks for its console meanwhile does not wait.
func TestPanicLeavesTheConsole(t *testing.T) {
	b := newBench(t)
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	finding := b.cfg.Hooks.Finding
	ending, release := make(chan struct{}), make(chan struct{})
	b.cfg.Hooks.Finding = func(f Finding) {
		close(ending)
		<-release
		finding(f)
	}
	i, m := b.start(nil)
	m.Print(false, "[    1.000000] "+fatal+"\n[    1.000001] ---[ end "+fatal+" ]---\n")
	<-ending
	asked := make(chan bool)
	go func() { asked <- i.StampsLines() }()
	select {
	case <-asked:
	case <-time.After(patience):
		t.Error("the console is held")
	}
	close(release)
	<-i.Done()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.findings) != 1 || !strings.Contains(b.died, "Fatal exception") {
		t.Errorf("%q, %q", b.findings, b.died)
	}
}
