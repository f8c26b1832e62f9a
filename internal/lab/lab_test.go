package lab

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"provium/internal/plainwords"
	"provium/internal/topology"
)

func declare(t *testing.T, l *Lab, name string) *VM {
	t.Helper()
	vm, err := l.DeclareVM(name, "p", nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
	for _, found := range plainwords.Jargon(err.Error()) {
		t.Error(found)
	}
}

func TestDeclareErrors(t *testing.T) {
	l := newLab(t, noGuests(t))
	declare(t, l, "a")
	for _, tc := range []struct {
		name, profile string
		parts         []string
	}{
		{"a", "p", []string{"DuplicateVmName", "already used", "`a`"}},
		{"b", "none", []string{"unknown profile `none`", "provium.toml", "p, q"}},
		{"vm_fixture", "p", []string{"reserved", "pack, unpack, vm_fixture, lab_fixture"}},
		{"", "p", []string{"not valid"}},
		{"a b", "p", []string{"`a b`"}},
		{strings.Repeat("x", 64), "p", []string{"1 to 63"}},
	} {
		_, err := l.DeclareVM(tc.name, tc.profile, nil)
		wantError(t, err, tc.parts...)
	}
	if _, err := New(&Host{}).DeclareVM("a", "x", nil); err == nil || !strings.Contains(err.Error(), "[profiles.x]") {
		t.Errorf("without profiles: %v", err)
	}
}

func TestLookupGoesOutwardAndNeverIntoSubLabs(t *testing.T) {
	file := newLab(t, noGuests(t))
	a := declare(t, file, "a")
	sub, err := file.Lab("inner")
	if err != nil {
		t.Fatal(err)
	}
	declare(t, sub, "hidden")
	test := file.OpenScope()
	b := declare(t, test, "b")
	if vm, ok := test.VM("a"); !ok || vm != a {
		t.Error("a test does not see the file's VM")
	}
	if _, ok := file.VM("b"); ok {
		t.Error("the file sees a test's VM")
	}
	if _, ok := sub.VM("a"); ok {
		t.Error("a sub-lab's lookup leaves it")
	}
	if _, ok := test.VM("hidden"); ok {
		t.Error("a lookup enters a sub-lab")
	}
	if s, ok := test.LookupLab("inner"); !ok || s != sub {
		t.Error("a test does not see the file's lab")
	}
	_, err = test.MustVM("zzz")
	wantError(t, err, "no vm named `zzz`", "a, b")
	_, err = test.DeclareVM("a", "p", nil)
	wantError(t, err, "name already declared at parent scope (lab `provium`)", "rename", "provium:vm(\"a\")")
	if got := fmt.Sprint(test.VMNames(), file.VMNames(), file.SubLabNames()); got != "[b] [a] [inner]" {
		t.Errorf("names: %s", got)
	}
	_ = b
}

func TestAnonymousLabs(t *testing.T) {
	l := newLab(t, noGuests(t))
	for _, want := range []string{"__lab_0", "__lab_1"} {
		s, err := l.Lab("")
		if err != nil || s.Name() != want {
			t.Errorf("got %v, %v, want %s", s, err, want)
		}
	}
}

func TestIncludeIsAllOrNothing(t *testing.T) {
	l := newLab(t, noGuests(t))
	one, _ := l.Lab("one")
	two, _ := l.Lab("two")
	a, b := declare(t, one, "a"), declare(t, one, "b")
	declare(t, two, "b")
	wantError(t, two.Include([]Member{a, b}), "DuplicateVmName", "`b`")
	if got := fmt.Sprint(two.VMNames()); got != "[b]" {
		t.Errorf("after a refused include: %s", got)
	}
	if err := two.Include([]Member{a, a}); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(two.Members()); got != "[{vm b} {vm a}]" {
		t.Errorf("members: %s", got)
	}
	wantError(t, one.Include([]Member{one}), "contain itself")
	if err := one.Include([]Member{two}); err != nil {
		t.Error(err)
	}
	wantError(t, two.Include([]Member{one}), "contain itself")
	wantError(t, two.RemoveName("zzz"), "no member `zzz`", "b, a")
	if err := two.RemoveName("b"); err != nil {
		t.Error(err)
	}
	if _, ok := two.VM("b"); ok {
		t.Error("a removed VM is still found")
	}
}

func TestAScopeClosesWhatItHolds(t *testing.T) {
	ctx := context.Background()
	file := newLab(t, noGuests(t))
	group, _ := file.Lab("group")
	shared := declare(t, group, "shared")
	test := file.OpenScope()
	own := declare(t, test, "own")
	removed := declare(t, test, "removed")
	sub, _ := test.Lab("sub")
	inner := declare(t, sub, "inner")
	kept := declare(t, sub, "kept")
	for _, err := range []error{
		file.Boot(ctx), test.Boot(ctx), test.Remove(removed),
		test.Include([]Member{shared}), file.Include([]Member{kept}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if errs := test.CloseScope(ctx); len(errs) > 0 {
		t.Fatal(errs)
	}
	for vm, want := range map[*VM]topology.State{shared: topology.Booted, own: topology.Shutdown,
		removed: topology.Shutdown, inner: topology.Shutdown,
		kept: topology.Booted} {
		if vm.State() != want {
			t.Errorf("%s is %s, want %s", vm.Name(), vm.State(), want)
		}
	}
	if errs := file.CloseScope(ctx); len(errs) > 0 {
		t.Fatal(errs)
	}
	if shared.State() != topology.Shutdown || kept.State() != topology.Shutdown {
		t.Errorf("after the file: %s, %s", shared.State(), kept.State())
	}
	if _, err := test.DeclareVM("own", "p", nil); err != nil {
		t.Errorf("the name is not free again: %v", err)
	}
}

func TestBatchCallsCheckBeforeTheyTouch(t *testing.T) {
	ctx := context.Background()
	l := newLab(t, noGuests(t))
	a, b := declare(t, l, "a"), declare(t, l, "b")
	if err := a.Boot(ctx, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, l.Pause(ctx), "pause failed, nothing was changed", "`b`", "created")
	if a.State() != topology.Booted {
		t.Errorf("a is %s", a.State())
	}
	for _, step := range []struct {
		do   func(context.Context) error
		want topology.State
	}{{l.Boot, topology.Booted}, {l.Pause, topology.Paused}, {l.Pause, topology.Paused}, {l.Resume, topology.Booted},
		{l.Shutdown, topology.Shutdown}, {l.Boot,
			topology.Booted}} {
		if err := step.do(ctx); err != nil {
			t.Fatal(err)
		}
		if a.State() != step.want || b.State() != step.want {
			t.Errorf("%s, %s, want %s", a.State(), b.State(), step.want)
		}
	}
}

func TestStateErrorsNameTheWayOut(t *testing.T) {
	for _, tc := range []struct {
		state topology.State
		op    string
		need  topology.State
		parts []string
	}{
		{topology.Created, "reset", topology.Booted, []string{"cannot reset: vm `n1` is created (not booted)"}},
		{topology.Booted, "boot", topology.Created, []string{"cannot boot: vm `n1` is already booted"}},
		{topology.Booted, "resume", topology.Paused, []string{"booted (not paused)"}},
		{topology.Paused, "run", topology.Booted, []string{"paused", "resume"}},
		{topology.Paused, "boot", topology.Created, []string{"paused", "resume"}},
		{topology.Shutdown, "run", topology.Booted, []string{"shutdown", "boot", "create a new"}},
		{topology.Dead, "run", topology.Booted, []string{"dead", "it broke", "create a new"}},
	} {
		err := &topology.StateError{VM: "n1", Op: tc.op, State: tc.state, Need: tc.need, Reason: "it broke"}
		wantError(t, err, tc.parts...)
	}
}
