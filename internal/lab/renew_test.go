package lab

import (
	"bytes"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/topology"
	"provium/internal/wire"
)

// renewals returns what a guest was renewed with.
func renewals(m *fakemachine.Machine) (out []*wire.Renew) {
	for _, r := range m.Requests() {
		if r, ok := r.(*wire.Renew); ok {
			out = append(out, r)
		}
	}
	return out
}

// lastRenewal returns the last one, which must be there.
func lastRenewal(t *testing.T, f *fakemachine.Machines, v *VM) *wire.Renew {
	t.Helper()
	all := renewals(machineOf(f, v))
	if len(all) == 0 {
		t.Fatalf("vm %s was not renewed", v.Name())
	}
	return all[len(all)-1]
}

// seededRun boots, restores and forks seeded guests, and returns the first blocks of their
// random devices.
func seededRun(t *testing.T) map[string][]byte {
	ctx := t.Context()
	l, f := fakeLab(t)
	seed := uint64(7)
	declareSeeded := func(name string) *VM {
		v, err := l.DeclareVM(name, "p", &topology.BootOpts{RNGSeed: &seed})
		must(t, err)
		return v
	}
	a, b := declareSeeded("a"), declareSeeded("b")
	blocks := map[string][]byte{}
	note := func(what string, v *VM) {
		t.Helper()
		r := lastRenewal(t, f, v)
		if r.DropRandom || len(r.RandomBlock) == 0 {
			t.Errorf("%s: %+v", what, r)
		}
		blocks[what] = r.RandomBlock
	}
	must(t, a.Boot(ctx, nil))
	note("boot", a)
	must(t, b.Boot(ctx, nil))
	note("other boot", b)
	must(t, a.Reset(ctx))
	note("reset", a)
	s, err := a.Snapshot(ctx, "")
	must(t, err)
	forks, err := a.Fork(ctx, l, 1)
	must(t, err)
	note("fork", forks[0])
	for _, what := range []string{"restore", "second restore", "third restore"} { // with a prewarmed one
		must(t, a.Shutdown(ctx))
		must(t, a.Restore(ctx, s.Path()))
		note(what, a)
		if r := lastRenewal(t, f, a); len(r.Entropy) == 0 {
			t.Errorf("%s: the kernel got nothing", what)
		}
	}
	must(t, b.Shutdown(ctx))
	must(t, b.Restore(ctx, s.Path()))
	note("restore of another VM", b)
	return blocks
}

func TestSeededRandomDevices(t *testing.T) {
	first, second := seededRun(t), seededRun(t)
	seen := map[string]string{}
	for what, block := range first {
		if !bytes.Equal(block, second[what]) {
			t.Errorf("%s: another run gave other bytes", what)
		}
		switch what {
		case "boot", "other boot", "reset":
			if !bytes.Equal(block, first["boot"]) {
				t.Errorf("%s: not the bytes of a boot", what)
			}
			continue
		}
		if other := seen[string(block)]; other != "" || bytes.Equal(block, first["boot"]) {
			t.Errorf("%s and %s have the same bytes", what, other)
		}
		seen[string(block)] = what
	}
}

func TestUnseededRandomDevices(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	v := declare(t, l, "a")
	must(t, v.Boot(ctx, nil))
	if r := renewals(f.Last()); len(r) > 0 {
		t.Errorf("a boot renewed %+v", r[0])
	}
	s, err := v.Snapshot(ctx, "")
	must(t, err)
	for range 3 {
		must(t, v.Shutdown(ctx))
		must(t, v.Restore(ctx, s.Path()))
		if r := lastRenewal(t, f, v); !r.DropRandom || r.RandomBlock != nil || r.MachineID {
			t.Errorf("%+v", r)
		}
	}
}

// TestEarliestTime has the agent told to take the earliest time for one that has passed.
func TestEarliestTime(t *testing.T) {
	ctx := t.Context()
	l, f := fakeLab(t)
	when := time.Unix(0, 0)
	v, err := l.DeclareVM("a", "p", &topology.BootOpts{InitialTime: &when})
	must(t, err)
	must(t, v.Boot(ctx, nil))
	for _, r := range f.Last().Requests() {
		if r, ok := r.(*wire.ClockSet); ok {
			if !r.Earliest {
				t.Errorf("%+v", r)
			}
			return
		}
	}
	t.Error("the clock was not set")
}

// TestMachineIDOfCachedBoots has the agent look for a machine id only in guests that had one when they were saved.
func TestMachineIDOfCachedBoots(t *testing.T) {
	for _, has := range []bool{false, true} {
		l, f := fakeLab(t)
		l.host.BootCache = t.TempDir()
		f.Prepare(func(m *fakemachine.Machine) {
			if has {
				m.Files.Write("/etc/machine-id", []byte("0123456789abcdef0123456789abcdef\n"))
			}
		})
		for _, name := range []string{"first", "second"} {
			v := declare(t, l, name)
			must(t, v.Boot(t.Context(), nil))
			if all := renewals(machineOf(f, v)); name == "second" && (len(all) != 1 || all[0].MachineID != has) {
				t.Errorf("machine id %v: renewed with %+v", has, all)
			}
			must(t, v.Shutdown(t.Context()))
		}
	}
}
