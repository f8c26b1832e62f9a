package templates

import (
	"fmt"
	"testing"

	"provium/internal/snapshot"
)

func TestDemand(t *testing.T) {
	known := func(boots *Boots, boot string) bool { return (&Demand{Known: boots}).Wants(boot) }
	own := map[string]bool{"once": false, "again": true}
	for name, c := range map[string]struct{ got, want bool }{
		"without a Demand":              {(*Demand)(nil).Wants("x"), true},
		"nothing is known":              {known(nil, "x"), true},
		"a boot that is new":            {known(&Boots{Own: own}, "x"), true},
		"asked for once":                {known(&Boots{Own: own}, "once"), false},
		"asked for again":               {known(&Boots{Own: own}, "again"), true},
		"a file that waits asks for it": {known(&Boots{Own: own, Next: []string{"once"}}, "once"), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v", name, c.got)
		}
	}
}

func TestDemandNotesBoots(t *testing.T) {
	d := &Demand{}
	if got := d.Seen(); got == nil || len(got) != 0 {
		t.Errorf("%v", got)
	}
	first, beside := d.Begin("two at once"), d.Begin("two at once")
	first()
	d.Begin("again")()
	d.Begin("again")()
	d.Begin("again")()
	d.Begin("once")()
	beside()
	if got, want := d.Seen(), map[string]bool{"two at once": false, "again": true, "once": false}; fmt.Sprint(got) !=
		fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	(*Demand)(nil).Begin("x")()
}

func TestBootsOf(t *testing.T) {
	waiting := map[string]map[string]bool{"a": {"x": true}, "b": {"y": false}, "c": {}}
	if got := BootsOf("a", waiting); fmt.Sprint(*got) != "{map[x:true] [y]}" {
		t.Errorf("%v", *got)
	}
	waiting["new"] = nil
	for _, path := range []string{"a", "new"} {
		if got := BootsOf(path, waiting); got != nil {
			t.Errorf("%s beside one that is not known: %v", path, *got)
		}
	}
}

// A template is made by one caller at a time.
func TestBegin(t *testing.T) {
	var s Store[*closing]
	id := ids(t, 2)
	steps := func(want ...bool) {
		t.Helper()
		for i, id := range []snapshot.FileID{id[0], id[0], id[1]} {
			if got := s.Begin(id); got != want[i] {
				t.Errorf("%d: %v", i, got)
			}
		}
	}
	steps(true, false, true)
	s.Put(id[0], nil, false) // none could be made
	s.Put(id[1], &closing{}, false)
	steps(true, false, false)
	s.Drop(id[1])
	s.Close()
	steps(false, false, false)
	if (*Store[*closing])(nil).Begin(id[0]) {
		t.Error("a store that keeps nothing")
	}
}
