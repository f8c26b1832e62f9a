package lab

import (
	"path/filepath"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/ready"
	"provium/internal/topology"
)

// TestBootIsDoneWithItsCondition waits for a command in the first boot, and keeps that moment in the boot
// cache: there it is not waited for again. A reset waits for it.
func TestBootIsDoneWithItsCondition(t *testing.T) {
	l, f := fakeLab(t)
	identify(f, 1<<20)
	l.host.BootCache = filepath.Join(t.TempDir(), "boots")
	l.host.Profiles["p"].Ready = ready.Condition{Kind: ready.Command, Text: "count >> /tmp/looks && cat /tmp/up"}
	looks := 0
	f.Prepare(func(m *fakemachine.Machine) {
		m.Program("count", func(*fakemachine.Process) int {
			if looks++; looks >= 3 {
				m.Files.Write("/tmp/up", []byte("up"))
			}
			return 0
		})
	})
	boot := func(name string) *VM {
		t.Helper()
		v, err := l.DeclareVM(name, "p", nil)
		must(t, err)
		must(t, v.Boot(t.Context(), nil))
		return v
	}
	first := boot("a")
	if looks != 3 {
		t.Errorf("the boot was done after %d looks", looks)
	}
	second := boot("b")
	if looks != 3 || shell(t, first, bootID) != shell(t, second, bootID) {
		t.Errorf("the second boot looked %d times, and was not served from the cache", looks-3)
	}
	must(t, second.Reset(t.Context()))
	if looks != 4 {
		t.Errorf("the reset looked %d times", looks-3)
	}
	// Another condition is another entry.
	third, err := l.DeclareVM("c", "p", &topology.BootOpts{Wait: "command:count"})
	must(t, err)
	must(t, third.Boot(t.Context(), nil))
	if looks != 5 || shell(t, third, bootID) == shell(t, first, bootID) {
		t.Errorf("%d looks", looks)
	}
}

// TestBootThatIsNeverReady fails with what there is instead.
func TestBootThatIsNeverReady(t *testing.T) {
	l, _ := fakeLab(t)
	for text, want := range map[string]string{
		"command:exit 3": "the guest is not ready (`command:exit 3`): the success of `exit 3` did not come " +
			"within 50ms: exit code 3",
		"init": "the guest is not ready (`init`): the init of the root file system did not come within 50ms",
	} {
		v, err := l.DeclareVM("v"+text[:1], "p", &topology.BootOpts{Wait: text})
		must(t, err)
		l.host.Profiles["p"].ReadyTimeout = 50 * time.Millisecond
		wantError(t, v.Boot(t.Context(), nil), want)
		if v.State() != topology.Dead {
			t.Errorf("the VM is %s", v.State())
		}
	}
}
