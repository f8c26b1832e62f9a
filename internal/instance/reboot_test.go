package instance

import (
	"regexp"
	"slices"
	"testing"

	"provium/internal/fakemachine"
)

// TestUnexpectedReboot has guests reboot: one is reported that nobody has asked for.
func TestUnexpectedReboot(t *testing.T) {
	says := func(words string) func(*Instance, *fakemachine.Machine) {
		return func(_ *Instance, m *fakemachine.Machine) {
			m.Print(false, words)
			m.RebootSilently()
		}
	}
	for name, c := range map[string]struct {
		cmdline string // console=ttyS0 if empty
		ignore  string
		do      func(*Instance, *fakemachine.Machine)
		button  bool // the reset button is pressed
		want    bool
	}{
		"triple fault":       {do: says(""), want: true},
		"after words":        {do: says("[    2.000000] demo: loaded\n"), want: true},
		"a program's reboot": {do: says("Rebooting.\n"), want: true},
		"reboot call":        {do: says("[    2.000000] reboot: Restarting system\n")},
		"behind a program's": {do: says("login: [    2.000000] reboot: Restarting system\n")},
		"sysrq":              {do: says("[    2.000000] sysrq: Resetting\n")},
		"old sysrq":          {do: says("[    2.000000] SysRq : Resetting\n")},
		"kexec":              {do: says("[    2.000000] kexec_core: Starting new kernel\n")},
		"reset button":       {button: true},
		"caller's wish":      {do: func(i *Instance, m *fakemachine.Machine) { i.Expect(true); m.RebootSilently() }},
		"no console":         {cmdline: "quiet", do: says("")},
		"another console":    {cmdline: "console=tty0", do: says("")},
		"hvc":                {cmdline: "console=hvc0 quiet", do: says(""), want: true},
		"ignored":            {ignore: "^unexpected reboot$", do: says("")},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if b.cfg.QEMU.Cmdline = c.cmdline; c.cmdline == "" {
				b.cfg.QEMU.Cmdline = "console=ttyS0,115200"
			}
			if c.ignore != "" {
				b.cfg.Oops.Ignore = []*regexp.Regexp{regexp.MustCompile(c.ignore)}
			}
			i, m := b.boot()
			var err error
			if c.button {
				err = i.Reset(t.Context())
			} else {
				c.do(i, m)
				err = i.WaitReboot(t.Context(), patience)
			}
			if err != nil {
				t.Fatal(err)
			}
			i.Expect(false)
			b.wantFindings(c.want, 1)

			// What the last kernel has said counts no more.
			m.RebootSilently()
			if err := i.WaitReboot(t.Context(), patience); err != nil {
				t.Fatal(err)
			}
			again := c.cmdline != "quiet" && c.cmdline != "console=tty0" && c.ignore == ""
			n := 1
			if c.want {
				n = 2
			}
			b.wantFindings(again, n)
		})
	}
}

// wantFindings expects n reports of unexpected reboots, or none.
func (b *bench) wantFindings(some bool, n int) {
	b.t.Helper()
	var want []string
	if some {
		want = slices.Repeat([]string{"unexpected reboot"}, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.findings, want) {
		b.t.Errorf("reported: %q, want %q", b.findings, want)
	}
}

// TestRebootBeforeAnAnswer has a guest reset itself that has not come up, as firmwares do.
func TestRebootBeforeAnAnswer(t *testing.T) {
	b := newBench(t)
	b.cfg.QEMU.Cmdline = "console=ttyS0"
	b.machines.Prepare(func(m *fakemachine.Machine) { m.SetAgent(fakemachine.AgentSilent) })
	i, m := b.start(nil)
	m.RebootSilently()
	m.SetAgent(fakemachine.AgentWorks)
	m.RebootSilently()
	if _, err := i.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wantFindings(false, 0)
}

// TestRebootAfterExpectedPanic has a crash kernel reboot without a word after a panic that the
// test expects.
func TestRebootAfterExpectedPanic(t *testing.T) {
	b := newBench(t)
	b.cfg.QEMU.Cmdline = "console=ttyS0"
	b.expects = true
	i, m := b.boot()
	m.Panic("on purpose")
	m.Reboot()
	if err := i.WaitReboot(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.findings) != 1 {
		t.Errorf("reported: %q", b.findings)
	}
}
