package instance

import (
	"io"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/inspect"
)

// told returns how often a machine was told something.
func told(m *fakemachine.Machine, name string) (n int) {
	for _, c := range m.Commands() {
		if c == name {
			n++
		}
	}
	return n
}

// awaitCommand waits until a machine was told something n times.
func awaitCommand(t *testing.T, m *fakemachine.Machine, name string, n int) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if told(m, name) >= n {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s was not sent %d times", name, n)
		}
	}
}

const panicLine = "[    1.000000] " + fatal + "\n"

// TestPanicThatReboots has a guest reboot after its panic, over whose memory the next kernel is
// loaded: its log and its memory are those of the panic.
func TestPanicThatReboots(t *testing.T) {
	b := newBench(t)
	b.cfg.PanicGrace = time.Hour
	b.cfg.Inspect = &inspect.Guest{DumpDir: t.TempDir()}
	i, m := b.boot()
	m.SetAgent(fakemachine.AgentSilent)
	m.StopAgent()
	m.Print(false, panicLine)
	putKernel(t, m, "Linux version 6.1", fatal)
	m.RebootSilently()
	b.wantDeath(i, "guest panicked: ", "Fatal exception")
	if m.Boots() != 1 {
		t.Errorf("the guest has booted %d times", m.Boots())
	}
	if log, err := i.cfg.Inspect.KernelLog(t.Context()); err != nil || len(log) != 2 {
		t.Errorf("%v, %v", log, err)
	}
	if err := i.cfg.Inspect.TakeCore(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
}

// TestResetIsNotAsked has the events of a machine's reset handled while QEMU answers nothing: what
// reads them must not wait for an answer.
func TestResetIsNotAsked(t *testing.T) {
	b := newBench(t)
	b.cfg.Inspect = &inspect.Guest{DumpDir: t.TempDir()}
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	putKernel(t, m, "Linux version 6.1", fatal)
	m.Print(false, panicLine) // its end is missing: it is believed at the reset
	i.machine.SyncConsole()
	m.Event("RESET", map[string]any{"guest": true})
	b.wantDeath(i, "guest panicked: ", "Fatal exception")
	if err := i.cfg.Inspect.TakeCore(t.Context(), io.Discard); err != nil {
		t.Error(err)
	}
}

// TestWordsOfAPanicEndNothing has programs print a kernel's words in a guest that then reboots and
// powers off as ever.
func TestWordsOfAPanicEndNothing(t *testing.T) {
	b := newBench(t)
	b.cfg.QEMU.Cmdline = "console=ttyS0 printk.time=1"
	i, m := b.boot()
	m.Print(false, "[    0.500000] Linux version 6.1\n"+fatal+"\n") // a line without a stamp is not the kernel's
	m.Reboot()
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if m.Status() != "running" || m.Boots() != 2 {
		t.Errorf("%s after %d boots", m.Status(), m.Boots())
	}
	m.Print(false, fatal+"\n")
	m.PowerOff()
	b.wantDeath(i, "guest powered off")
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.findings) > 0 {
		t.Errorf("reported: %q", b.findings)
	}
}

// TestExpectedPanicWithPvpanic has QEMU stop a guest whose panic the test expects: it goes on.
func TestExpectedPanicWithPvpanic(t *testing.T) {
	b := newBench(t)
	b.expects = true
	i, m := b.boot()
	m.Print(false, panicLine)
	n := told(m, "cont")
	m.Event("GUEST_PANICKED", map[string]any{"action": "pause"})
	awaitCommand(t, m, "cont", n+1)
	m.Reboot()
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Error(err)
	}
}

// TestQuietEnd has guests end whose kernels have logged a warning that the console does not show.
func TestQuietEnd(t *testing.T) {
	for name, ends := range map[string]func(*fakemachine.Machine){
		"resets itself": (*fakemachine.Machine).Reboot, "powers off": (*fakemachine.Machine).PowerOff,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cfg.QEMU.Cmdline = "console=ttyS0 printk.time=1"
			i, m := b.boot()
			putKernel(t, m, "Linux version 6.1", "WARNING: CPU: 0 PID: 1 at demo.c:3 demo_store+0x1/0x2",
				"RIP: 0010:demo_store+0x1/0x2", "---[ end trace 0000000000000000 ]---")
			ends(m)
			if name == "powers off" {
				b.wantDeath(i, "guest powered off")
			} else if err := i.WaitReboot(t.Context(), patience); err != nil {
				t.Fatal(err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.findings) != 1 {
				t.Errorf("reported: %q", b.findings)
			}
		})
	}
}

// TestStopAtAReset has a caller stop the vCPUs of a guest that resets itself: they stay stopped.
func TestStopAtAReset(t *testing.T) {
	b := newBench(t)
	i, m := b.boot()
	m.Reboot()
	if err := i.StopVCPUs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.Status() == "running" || m.Boots() != 2 {
		t.Errorf("%s after %d boots", m.Status(), m.Boots())
	}
	n := told(m, "cont")
	if err := i.StartVCPUs(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := i.WaitReboot(t.Context(), patience); err != nil || told(m, "cont") != n+1 {
		t.Errorf("%v, told to go on %d times", err, told(m, "cont")-n)
	}
}
