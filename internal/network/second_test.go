package network

import (
	"strings"
	"testing"
)

// A VM may have further NICs on a bridge, each with its own address, device and port; rules
// and names are those of the VM.
func TestSecondNIC(t *testing.T) {
	ctx := t.Context()
	s := newSite(t)
	b, other := s.bridge("b", nil), s.bridge("c", nil)
	v := s.vm("v")
	s.vm("w")
	attach(t, b, "v", "w")
	attach(t, other, "v")
	v.boot(t, s)
	second := Endpoint{VM: v, Name: "v", NIC: "bond1"}
	must(t, b.Attach(ctx, []Endpoint{second}))
	must(t, b.Attach(ctx, []Endpoint{second}))
	if got := strings.Join(b.Members(), " "); got != "v w" {
		t.Error(got)
	}
	first, err := b.NIC("v", "")
	must(t, err)
	n, err := b.NIC("v", "bond1")
	must(t, err)
	if n == first || n.Label() != "bond1" || n.MAC() == first.MAC() || n.IP() == first.IP() {
		t.Errorf("%s %s is not another NIC than %s %s", n.MAC(), n.IP(), first.MAC(), first.IP())
	}
	if got := v.machine.slots(); len(got) != 3 {
		t.Errorf("slots %v", got)
	}
	for name, want := range map[string]*NIC{"b": first, "bond1": n, "eth0": first, "eth1": n} {
		if got, err := s.FindNIC(v, name); err != nil || got != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if lines := hostsFile(s.NICs(v)); strings.Contains(lines, n.IP()+" ") {
		t.Error("its address has a name: " + lines)
	}
	b.Switch().Isolate("v", true)
	if !b.Switch().IsolatedAddress([6]byte(n.mac)) {
		v.sendFrame(t, late, textFrame(n, "here I am"))
		eventually(t, "its port is not isolated", func() bool { return b.Switch().IsolatedAddress([6]byte(n.mac)) })
	}
	wantError(t, b.Detach(ctx, "v", "bond2"), "vm `v` has no NIC `bond2` on bridge `b`")
	wantError(t, b.Attach(ctx, []Endpoint{{Name: "v", NIC: "a b"}}), "nic name `a b` is not valid")
	must(t, b.Detach(ctx, "v", "bond1"))
	if !b.Switch().IsIsolated("v") {
		t.Error("the rules of the VM are gone with its second NIC")
	}
	must(t, b.Attach(ctx, []Endpoint{second}))
	if again, err := b.NIC("v", "bond1"); err != nil || again != n {
		t.Error(again, err)
	}
	must(t, b.Detach(ctx, "v", ""))
	if b.Switch().IsIsolated("v") || strings.Join(b.Members(), " ") != "w" {
		t.Error("it did not leave with all its NICs", b.Members())
	}
}

// A snapshot has all NICs of a VM on a bridge.
func TestSecondNICSaved(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	b := s.bridge("b", nil)
	must(t, b.Attach(t.Context(), []Endpoint{{VM: v, Name: "v"}, {VM: v, Name: "v", NIC: "x"}}))
	before, err := b.NIC("v", "x")
	must(t, err)
	state := save(t, s)
	text, err := EncodeNICs(s.Plan(v))
	must(t, err)
	must(t, b.Close(t.Context()))
	state.restore(t, s, false)
	after, err := s.open()[0].NIC("v", "x")
	must(t, err)
	if after.MAC() != before.MAC() || after.IP() != before.IP() {
		t.Errorf("%s %s, not %s %s", after.MAC(), after.IP(), before.MAC(), before.IP())
	}
	planned, err := s.DecodeNICs(v, text, plainName)
	must(t, err)
	if len(planned) != 2 || planned[0].NIC.Label() != "" || planned[1].NIC != after {
		t.Errorf("%+v", planned)
	}
}

// A route waits for the bridge of its name.
func TestAwaitedRoute(t *testing.T) {
	s := newSite(t)
	a := s.bridge("a", nil)
	v := s.vm("v")
	attach(t, a, "v")
	must(t, a.AwaitRoute("later", s))
	must(t, a.AwaitRoute("later", s))
	if got := strings.Join(a.Routes(), " "); got != "later" {
		t.Error(got)
	}
	state := a.Save(func(*Bridge) string { return "" })
	must(t, state.Check(plainName))
	must(t, a.Load(&state, false))
	other := s.bridge("other", nil)
	must(t, other.ConnectAwaited())
	later := s.bridge("later", nil)
	must(t, later.ConnectAwaited())
	if other.NeedsSync() || !later.NeedsSync() {
		t.Error("the wrong bridge is routed to")
	}
	v.syncs()
	must(t, later.SyncRoutes(t.Context()))
	if later.NeedsSync() || v.syncs() != 1 {
		t.Error("the guest was not told")
	}
	if got := strings.Join(append(a.Routes(), later.Routes()...), " "); got != "later a" {
		t.Error(got)
	}
	must(t, a.AwaitRoute("silent", s))
	wantError(t, s.bridge("silent", &BridgeOpts{NoAddressing: true}).ConnectAwaited(),
		"bridge `a` waits for a route to `silent`: bridge `silent` has no addressing")
	state.Awaited = []string{"a b"}
	wantError(t, state.Check(plainName), "bridge `a` routes")
}
