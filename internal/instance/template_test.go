package instance

import (
	"errors"
	"testing"
	"time"

	"provium/internal/inspect"
	"provium/internal/qemu"
)

// restored starts the guest of a saved one.
func (b *bench) restored(s saved) *Instance {
	b.t.Helper()
	b.cfg.QEMU, b.cfg.Restored = b.describe(), true
	b.cfg.QEMU.Restore = &qemu.Restore{File: s.file, StateAt: s.at, StateLen: s.length}
	i, _ := b.start(nil)
	if _, err := i.Client(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return i
}

// TestTemplateOfAMachineWithoutOne takes one of a machine whose process cannot be copied: the guest stands still for
// it, and goes on.
func TestTemplateOfAMachineWithoutOne(t *testing.T) {
	b := newBench(t)
	i := b.restored(b.save())
	m := b.machines.WithPID(i.Machine().PID())
	if i.Template(t.Context(), ":") != nil {
		t.Error("there is a template")
	}
	if told(m, "stop") != 1 || told(m, "cont") != 2 { // the first one ends the restore
		t.Errorf("%d stops, %d times on", told(m, "stop"), told(m, "cont"))
	}
	link, err := i.Client(t.Context())
	if err == nil {
		err = link.Ping(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
	seed := uint64(1)
	for name, change := range map[string]func(*qemu.Config){
		"a seed":   func(c *qemu.Config) { c.RNGSeed = &seed },
		"template": func(c *qemu.Config) { c.Restore.Template = &qemu.Template{} },
	} {
		changed := *i.cfg.QEMU
		restore := *changed.Restore
		changed.Restore = &restore
		change(&changed)
		was := i.cfg.QEMU
		i.cfg.QEMU = &changed
		if i.Template(t.Context(), ":") != nil || told(m, "stop") != 1 {
			t.Errorf("%s: it is stopped", name)
		}
		i.cfg.QEMU = was
	}
	i.End("the test ends it")
	if i.Template(t.Context(), "") != nil {
		t.Error("an ended guest has a template")
	}
}

func TestKeyOf(t *testing.T) {
	seed := uint64(7)
	plain := KeyOf(Key{}.Snapshot, &qemu.Config{})
	if plain != (Key{}) {
		t.Errorf("%+v", plain)
	}
	k := KeyOf(Key{}.Snapshot, &qemu.Config{RNGSeed: &seed, RTCBase: time.Unix(1, 5)})
	if k != (Key{Seeded: true, Seed: 7, Start: 1_000_000_005}) {
		t.Errorf("%+v", k)
	}
}

func TestUses(t *testing.T) {
	var u Uses
	for _, want := range []string{"restore 1 of a", "restore 2 of a"} {
		if got := u.Next("a"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := u.Next("b"); got != "restore 1 of b" {
		t.Error(got)
	}
}

func TestBootErrors(t *testing.T) {
	cause := errors.New("no agent answered")
	for want, e := range map[string]*BootError{
		"vm `a` boot: no agent answered (the guest's console is empty)":         {},
		"vm `a` boot: no agent answered; the guest's console ends with:\nwords": {Console: "words"},
		"vm `a` boot: no agent answered; the log of the guest's kernel ends with:\n[1] line\n" +
			"(the guest's console is empty)": {Kernel: "[1] line\n"},
		"vm `a` boot: no agent answered; the log of the guest's kernel ends with:\n[1] line\n" +
			"the guest's console ends with:\nwords": {Kernel: "[1] line\n", Console: "words"},
	} {
		e.VM, e.Err = "a", cause
		if e.Error() != want || !errors.Is(e, cause) {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
	e := FailedBoot(t.Context(), "a", cause, "words", &inspect.Guest{}, nil)
	if e.Kernel != "" || e.Console != "words" {
		t.Errorf("%+v", e)
	}
}
