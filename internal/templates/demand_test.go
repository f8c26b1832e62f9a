package templates

import (
	"context"
	"fmt"
	"testing"
)

func TestDemand(t *testing.T) {
	wants := func(known *Boots, boot string, next bool) bool { return (&Demand{Known: known}).Wants(boot, next) }
	own := map[string]bool{"once": false, "again": true}
	for name, c := range map[string]struct{ got, want bool }{
		"without a Demand":              {(*Demand)(nil).Wants("x", true), true},
		"nothing is known":              {wants(nil, "x", true), true},
		"… and no file follows":         {wants(nil, "x", false), false},
		"a boot that is new":            {wants(&Boots{Own: own}, "x", true), true},
		"asked for once":                {wants(&Boots{Own: own}, "once", true), false},
		"asked for again":               {wants(&Boots{Own: own}, "again", false), true},
		"a file that waits asks for it": {wants(&Boots{Own: own, Next: []string{"once"}}, "once", true), true},
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
	for _, boot := range []string{"twice", "once", "twice", "often", "often", "often"} {
		d.Ask(boot)
	}
	want := map[string]bool{"twice": true, "once": false, "often": true}
	if got := d.Seen(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	(*Demand)(nil).Ask("x")
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

// A template is made by one caller, and others wait for it.
func TestLead(t *testing.T) {
	var s Store[*closing]
	id := ids(t, 2)
	ctx := t.Context()
	lead := func(ctx context.Context, i int) <-chan func() {
		done := make(chan func(), 1)
		go func() { done <- s.Lead(ctx, id[i]) }()
		return done
	}
	first := <-lead(ctx, 0)
	if other := <-lead(ctx, 1); first == nil || other == nil {
		t.Fatal("both lead")
	}
	short, cancel := context.WithCancel(ctx)
	waits, givesUp := lead(ctx, 0), lead(short, 0)
	cancel()
	if end := <-givesUp; end != nil {
		t.Error("it leads beside the first one")
	}
	if !s.IsAwaited(id[0]) {
		t.Error("somebody has waited")
	}
	if s.IsAwaited(id[1]) {
		t.Error("nobody waits for that one")
	}
	first() // it made none
	first()
	second := <-waits
	if second == nil {
		t.Fatal("nobody leads")
	}
	waits = lead(ctx, 0)
	s.Put(id[0], &closing{}, false)
	if end := <-waits; end != nil {
		t.Error("one leads though there is a template")
	}
	second()
	s.Drop(id[0])
	third := <-lead(ctx, 0)
	if third == nil {
		t.Error("nobody leads when the template is gone")
	}
	if s.IsAwaited(id[0]) {
		t.Error("nobody waits for the third one")
	}
	for range maxTries {
		s.Put(id[0], nil, false)
	}
	third()
	if s.Lead(ctx, id[0]) != nil {
		t.Error("one leads though no template can be made")
	}
	if none := (*Store[*closing])(nil); none.IsAwaited(id[0]) {
		t.Error("a store that keeps nothing")
	}
	if (*Store[*closing])(nil).Lead(ctx, id[0]) != nil {
		t.Error("a store that keeps nothing")
	}
	s.Close()
	if s.Lead(ctx, id[0]) != nil {
		t.Error("a store that is closed")
	}
}
