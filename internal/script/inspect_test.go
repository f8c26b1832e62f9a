package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/guestmem/fakekernel"
	"provium/internal/script/verdict"
)

// cpuText is how QEMU prints a CPU that runs the kernel with interrupts off.
const cpuText = "\r\nCPU#0\r\nRAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004\r\n" +
	"RIP=ffffffff80001234 RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\r\n" +
	"CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]\r\n" +
	"CR0=80050033 CR2=0000000000000000 CR3=%016x CR4=00750ef0\r\nFCW=037f FSW=0000\r\n"

// addKernel makes the command `kernel`, which puts a kernel with some messages into the
// guest's memory.
func addKernel(t *testing.T, m *fakemachine.Machine) {
	m.Program("kernel", func(*fakemachine.Process) int {
		k := fakekernel.Kernel{Base: 16 << 20, Messages: []fakekernel.Message{
			{Level: 6, Text: "booting"}, {Level: 6, NS: 1e9, Text: "Run /init as init process"},
			{Level: 6, NS: 2e9, Text: "eth0: link up"}, {Level: 3, NS: 3e9, Text: "sda: bad\x1b sector"},
			{Level: 3, NS: 4e9, Text: "seen on the console"}, {Level: 3, Facility: 1, NS: 5e9, Text: "from a daemon"}}}
		if err := m.WriteMemory(k.Base, k.Memory()); err != nil {
			t.Error(err)
		}
		m.SetRegisters(fmt.Sprintf(cpuText, k.Base+fakekernel.CR3))
		m.Print(false, "[    4.000000] seen on the console\n")
		return 0
	})
}

// sourceOf puts a line of source before a word, and misses a module.
func sourceOf(word string) *verdict.Project {
	return &verdict.Project{Source: func(_ context.Context, profile, text string) (string, error) {
		return strings.ReplaceAll(text, word, "("+profile+", x.c:7) "+word), errors.New("no module")
	}}
}

// TestSilentGuestIsInspected has a guest hang: its failure says what its CPUs do and what its
// kernel has said, within a second.
func TestSilentGuestIsInspected(t *testing.T) {
	host, machines := fakeHost(t)
	host.Watch = quickWatch
	host.Watch.Limit, host.Watch.Grace = time.Hour, time.Hour // it does not die by itself
	machines.Prepare(func(m *fakemachine.Machine) { addKernel(t, m); m.StopAgentAt("stat") })
	o := runFile(t, t.Context(), write(t, map[string]string{testPath: `
test("it", {timeout = "300ms"}, function(t)
  local vm = provium:vm("a", "host"):boot()
  vm:run("kernel")
  vm:stat("/x")
end)`}), func(c *Config) {
		c.Host = host
		c.Reports = sourceOf("RIP 0x")
	})
	o.failed(t, "it", "in vm `a` when the time was up: the guest does not answer",
		"CPU 0 runs the kernel with interrupts off, (host, x.c:7) RIP 0xffffffff80001234",
		"(lines of source: no module)", "RAX=0000000000000001",
		"kernel log of vm `a`, as far as its console does not show it:\n  [    2.000000] eth0: link up\n"+
			"  [    3.000000] sda: bad\\x1b sector\n  [    5.000000] from a daemon")
	for _, unwanted := range []string{"booting", "FCW="} {
		if strings.Contains(o.failed(t, "it").Reason, unwanted) {
			t.Errorf("%s is shown", unwanted)
		}
	}
}

// TestBusyCPUsOfAGuestThatAnswers has a command run in the kernel for ever, on one of two CPUs: the other one answers,
// and the failure says what the first one does.
func TestBusyCPUsOfAGuestThatAnswers(t *testing.T) {
	const idle = "\r\nCPU#1\r\nRIP=ffffffff80005678 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\r\n" +
		"CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]\r\n"
	o := runOn(t, `
local vm = provium:vm("a", "host"):boot()
test("spins", {timeout = "300ms"}, function(t) vm:run("hang") end)
test("waits", {timeout = "300ms"}, function(t) vm:run("calm; hang") end)
test("later", function(t) t:assert_eq(vm:state(), "booted") end)
`, func(m *fakemachine.Machine) {
		addHang(m)
		m.SetRegisters(fmt.Sprintf(cpuText, 0x1000) + idle)
		m.Program("calm", func(*fakemachine.Process) int {
			m.Files.Write("/proc/41/stat", []byte("41 (sh) S 30 1 1 0 -1 4194304 1"))
			return 0
		})
		m.Files.MkdirAll("/proc/41")
		m.Files.Write("/proc/41/stat", []byte("41 (sh) R 30 1 1 0 -1 4194304 1"))
	}, func(c *Config) { c.Reports = sourceOf("RIP 0x") })
	e := o.failed(t, "spins", "     41    30 R -", "\nCPUs of vm `a` that run the kernel:\n"+
		"  CPU 0 runs the kernel with interrupts off, (host, x.c:7) RIP 0xffffffff80001234\n    RAX=0000000000000001")
	if strings.Contains(e.Reason, "CPU 1") {
		t.Errorf("an idle CPU is shown: %s", e.Reason)
	}
	if e := o.failed(t, "waits", "     41    30 S -"); strings.Contains(e.Reason, "CPU") {
		t.Errorf("CPUs are shown although nothing runs: %s", e.Reason)
	}
	o.passed(t, "later")
}

// TestSilentGuestIsKept has a guest that is given up during a test, and asked about later.
func TestSilentGuestIsKept(t *testing.T) {
	host, machines := fakeHost(t)
	host.Watch = quickWatch
	machines.Prepare(func(m *fakemachine.Machine) { addKernel(t, m); m.StopAgentAt("stat") })
	o := runFile(t, t.Context(), write(t, map[string]string{testPath: `
local vm = provium:vm("a", "host"):boot()
test("it", function(t)
  vm:run("kernel")
  vm:stat("/x")
end)
test("later", function(t)
  t:assert_eq(vm:state(), "dead")
  t:assert_contains(vm:dmesg(), "eth0: link up")
  vm:stat("/x")
end)`}), func(c *Config) {
		c.Host = host
		c.Reports = sourceOf("RIP 0x")
	})
	o.failed(t, "it", "no sign of life for", "vm `a` before it was given up:",
		"CPU 0 runs the kernel with interrupts off, (host, x.c:7) RIP", "eth0: link up")
	o.failed(t, "later", "dead")
	for _, unwanted := range []string{"CPU 0", "kernel log of vm"} {
		if strings.Contains(o.failed(t, "later").Reason, unwanted) {
			t.Errorf("%s is shown twice", unwanted)
		}
	}
}

// TestStallsFailAtOnce has a task hang in a guest: the test ends when its kernel says so, and
// not at its limit.
func TestStallsFailAtOnce(t *testing.T) {
	const report = "[  241.000000] INFO: task sh:42 blocked for more than 120 seconds.\n" +
		"[  241.000001]       Not tainted 6.1.0\n" +
		"[  241.000002] task:sh              state:D stack:0     pid:42    ppid:1      flags:0x00000002\n" +
		"[  241.000003] Call Trace:\n[  241.000004]  <TASK>\n[  241.000005]  __schedule+0x2d1/0x870\n" +
		"[  241.000006]  schedule+0x5d/0xe0\n[  241.000007]  wait_for_disk+0x1f/0x30\n[  241.000008]  </TASK>\n"
	o := runOn(t, `
test("it", {timeout = "1h"}, function(t)
  provium:vm("a", "host"):boot():run("hang")
end)
test("allowed", {allow_oops = true}, function(t)
  local vm = provium:vm("b", "host"):boot()
  t:assert(vm:run("hang", {timeout = "1s"}).timed_out)
end)
`, func(m *fakemachine.Machine) {
		m.Program("hang", func(p *fakemachine.Process) int {
			m.Print(false, report)
			<-p.Context.Done()
			return 1
		})
	}, nil)
	o.failed(t, "it", "guest failure on vm `a`: INFO: task hung in", `in vm:run("hang")`)
	o.passed(t, "allowed")
}

// TestHealthyGuestsWarnings has a test fail in a guest that is well: warnings of its kernel are
// shown, once.
func TestHealthyGuestsWarnings(t *testing.T) {
	o := runOn(t, `
local vm = provium:vm("a", "host"):boot()
test("it", function(t)
  vm:run("kernel")
  t:assert_contains(vm:dmesg{level = "err"}, "bad")
  t:fail("x")
end)
test("later", function(t) vm:run("true"); t:fail("y") end)
`, func(m *fakemachine.Machine) { addKernel(t, m) }, nil)
	o.failed(t, "it",
		"kernel log of vm `a`, as far as its console does not show it:\n  [    3.000000] sda: bad\\x1b sector")
	for name, unwanted := range map[string]string{"it": "eth0", "later": "kernel log"} {
		if strings.Contains(o.failed(t, name).Reason, unwanted) {
			t.Errorf("%s: %s is shown", name, unwanted)
		}
	}
}
