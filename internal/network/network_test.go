package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// site is a network whose bridges look VMs up among its own.
type site struct {
	*Network
	vms map[string]*fakeVM
}

func newSite(t *testing.T) *site {
	s := &site{New(Env{File: "net.test.lua"}), map[string]*fakeVM{}}
	t.Cleanup(func() { must(t, s.Close(context.Background())) })
	return s
}

func (s *site) Station(name string) (Station, bool) {
	if v, ok := s.vms[name]; ok {
		return v, true
	}
	return nil, false
}

func (s *site) Bridge(name string) (*Bridge, bool) {
	for _, b := range s.open() {
		if b.name == name {
			return b, true
		}
	}
	return nil, false
}

func (s *site) VMNames() []string { return slices.Sorted(maps.Keys(s.vms)) }

func (s *site) vm(name string) *fakeVM {
	v := &fakeVM{name: name}
	s.vms[name] = v
	return v
}

func (s *site) bridge(name string, opts *BridgeOpts) *Bridge {
	return s.NewBridge(BridgeConfig{Name: name, Lab: "provium", Scope: s, Opts: opts})
}

// attach attaches VMs by name.
func attach(t *testing.T, b *Bridge, names ...string) {
	t.Helper()
	must(t, b.Attach(t.Context(), endpoints(names...)))
}

func endpoints(names ...string) (ends []Endpoint) {
	for _, n := range names {
		ends = append(ends, Endpoint{Name: n})
	}
	return ends
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("error %v, want %q", err, p)
		}
	}
}

func TestAddresses(t *testing.T) {
	s := newSite(t)
	b, c := s.bridge("b", nil), s.bridge("c", nil)
	var names []string
	for i := range maxNICs {
		names = append(names, fmt.Sprint("v", i))
	}
	attach(t, b, names...)
	wantError(t, b.Attach(t.Context(), endpoints("more")), "full", "253 of at most 253")
	attach(t, c, names[0])
	seen := map[string]bool{}
	for _, bridge := range []*Bridge{b, c} {
		for _, name := range bridge.Members() {
			n, err := bridge.NIC(name, "")
			must(t, err)
			v4, v6 := n.addresses()[0], n.addresses()[1]
			for _, a := range []string{n.MAC(), n.IP(), v6.Addr().String()} {
				if seen[a] {
					t.Fatalf("%s twice", a)
				}
				seen[a] = true
			}
			if n.mac[0] != 2 || !bridge.v4.Contains(v4.Addr()) || !bridge.v6.Contains(v6.Addr()) {
				t.Fatalf("%s %v", n.MAC(), n.addresses())
			}
		}
	}
	again := newSite(t).bridge("b", nil)
	attach(t, again, names[0])
	x, _ := b.NIC("v0", "")
	y, _ := again.NIC("v0", "")
	if x.MAC() != y.MAC() || x.IP() != y.IP() {
		t.Errorf("another run has %s %s, not %s %s", y.MAC(), y.IP(), x.MAC(), x.IP())
	}
}

func TestHostsFile(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	for _, name := range []string{"b", "a"} {
		attach(t, s.bridge(name, nil), "v", "w")
	}
	attach(t, s.bridge("plain", &BridgeOpts{NoAddressing: true}), "v")
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(hostsFile(s.NICs(v))), "\n") {
		_, rest, _ := strings.Cut(line, " ")
		names = append(names, rest)
	}
	want := "v.a v|v.a v|w.a w|w.a w|v.b|v.b|w.b|w.b"
	if got := strings.Join(names, "|"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestFindNIC(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	_, err := s.FindNIC(v, "eth0")
	wantError(t, err, "it is on no bridge")
	for _, name := range []string{"c", "a", "b"} {
		attach(t, s.bridge(name, nil), "v")
	}
	// With a fourth bridge they mean what they meant.
	attach(t, s.bridge("d", nil), "v")
	for name, want := range map[string]string{"a": "a", "eth0": "a", "eth2": "c", "enp0s1": "", "enp0s2": "a",
		"enp0s3": "a", "ens2": "a", "ens4": "b", "ens5": "c", "enp0s0": "", "eth3": "d",
		"eth4": "", "ens6": "d", "ens7": "", "x": "", "eth-1": ""} {
		n, err := s.FindNIC(v, name)
		switch {
		case want == "":
			wantError(t, err, "vm:nic: no NIC `"+name+"` on vm `v`")
		case err != nil || n.Bridge().Name() != want:
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttachAllOrNone leaves no member when one guest cannot be configured.
func TestAttachAllOrNone(t *testing.T) {
	s := newSite(t)
	b := s.bridge("b", nil)
	s.vm("good")
	bad := s.vm("bad")
	bad.err = errors.New("broken guest")
	wantError(t, b.Attach(t.Context(), endpoints("good", "bad")), "bridge `b` attach", "broken guest")
	if m := b.Members(); len(m) != 0 {
		t.Errorf("members %v", m)
	}
	if n := s.NICs(bad); len(n) != 0 {
		t.Errorf("NICs %v", n)
	}
	bad.err = nil // it has still an interface to unplug
}

func TestFits(t *testing.T) {
	s := newSite(t)
	seed := uint64(7)
	b := s.bridge("b", &BridgeOpts{Seed: &seed})
	if b.Seed() != seed || b.Name() != "b" {
		t.Error(b.Seed(), b.Name())
	}
	must(t, b.Fits(nil))
	must(t, b.Fits(&BridgeOpts{Seed: &seed}))
	other := uint64(8)
	wantError(t, b.Fits(&BridgeOpts{Seed: &other}), "exists with seed 7, not 8")
	wantError(t, b.Fits(&BridgeOpts{NoAddressing: true}), "exists with addressing")
	if one, two := s.bridge("c", nil).Seed(), New(Env{File: "net.test.lua", Seed: 1}).env; one == 0 || two.Seed != 1 {
		t.Error("the seed does not follow from the names")
	}
}

func TestJoinRefusals(t *testing.T) {
	s := newSite(t)
	v := s.vm("v")
	b := s.bridge("b", nil)
	attach(t, b, "v", "v") // twice is once
	if m := b.Members(); len(m) != 1 {
		t.Errorf("members %v", m)
	}
	stranger := &fakeVM{name: "v"}
	wantError(t, b.Attach(t.Context(), []Endpoint{{VM: stranger, Name: "v"}}), "two members called `v`")
	wantError(t, b.Attach(t.Context(), []Endpoint{{VM: stranger, Name: "w"}, {Name: "w"}}), "two members called `w`")
	for i := range 30 {
		attach(t, s.bridge(fmt.Sprint("more", i), nil), "v")
	}
	wantError(t, s.bridge("last", nil).Attach(t.Context(), []Endpoint{{VM: v, Name: "v"}}), "has 31 NICs already")
	must(t, b.Close(t.Context()))
	if !b.IsClosed() {
		t.Error("not closed")
	}
	wantError(t, b.Attach(t.Context(), endpoints("x")), "bridge `b` is closed")
	must(t, b.Close(t.Context()))
}

// TestLateVM declares a VM later, which gets the place that its name has.
func TestLateVM(t *testing.T) {
	s := newSite(t)
	b := s.bridge("b", nil)
	attach(t, b, "late")
	stranger := &fakeVM{name: "late"}
	s.Bind(stranger) // of another lab
	v := s.vm("late")
	s.Bind(v)
	if n, err := s.FindNIC(v, "b"); err != nil || n.VMName() != "late" || len(s.NICs(stranger)) != 0 {
		t.Fatal(n, err)
	}
	must(t, s.Leave(t.Context(), v))
	if len(b.Members()) != 0 || len(s.NICs(v)) != 0 {
		t.Error("it is still a member")
	}
	if len(s.attached) != 0 {
		t.Error("the network remembers a VM that has left")
	}
}

// TestAnnounce tells the members of a bridge, and of routed ones, of changes.
func TestAnnounce(t *testing.T) {
	s := newSite(t)
	a, c := s.vm("a"), s.vm("c")
	lan, wan := s.bridge("lan", nil), s.bridge("wan", nil)
	plain := s.bridge("plain", &BridgeOpts{NoAddressing: true})
	attach(t, lan, "a")
	attach(t, wan, "c")
	must(t, lan.Route(t.Context(), []*Bridge{wan}))
	a.syncs()
	c.syncs()
	v := s.vm("v")
	attach(t, lan, "v")
	if a.syncs() != 1 || c.syncs() != 1 || v.syncs() != 1 {
		t.Error("somebody was not told once of an attach")
	}
	attach(t, plain, "v")
	if a.syncs() != 0 {
		t.Error("told of a bridge without addressing")
	}
	copied := s.vm("v-1")
	must(t, s.AttachLike(v, copied))
	if n := s.NICs(copied); len(n) != 2 || copied.syncs() != 0 {
		t.Error(n)
	}
	must(t, s.Announce(t.Context(), v, []Station{copied}))
	if a.syncs() != 1 || c.syncs() != 1 || copied.syncs() != 0 {
		t.Error("an announcement went to the wrong VMs")
	}
	must(t, lan.Detach(t.Context(), "v", ""))
	wantError(t, lan.Detach(t.Context(), "v", ""), "not attached to bridge `lan` (members: a, v-1)")
	wantError(t, s.bridge("empty", nil).Detach(t.Context(), "v", ""), "(members: none)")
	if v.syncs() == 0 || a.syncs() != 1 {
		t.Error("somebody was not told of a detach")
	}
	must(t, lan.Detach(t.Context(), "v-1", ""))
	a.set(func() { a.err = errFake })
	wantError(t, s.Announce(t.Context(), a, nil), "bridge `lan` names", errFake.Error())
	a.set(func() { a.err = nil })
}

// Rules wait for a VM that is not attached, and end with it.
func TestAwaitedVM(t *testing.T) {
	s := newSite(t)
	b := s.bridge("b", nil)
	v := s.vm("v")
	attach(t, b, "x")
	for _, joins := range []bool{false, true} {
		e, ok := b.Find("v")
		if !ok || e.VM != v {
			t.Fatal("not found", e)
		}
		b.Await(e)
		b.Switch().Partition("v", "x")
		if joins {
			attach(t, b, "v")
			if !b.Switch().IsPartitioned("x", "v") {
				t.Error("the rule did not wait")
			}
		}
		must(t, s.Leave(t.Context(), v))
		if b.Switch().IsPartitioned("v", "x") {
			t.Error("the rule outlives its VM")
		}
	}
	if _, ok := b.Find("w"); ok {
		t.Error("found a VM that nobody declared")
	}
	if names := strings.Join(b.VMNames(), " "); names != "v x" {
		t.Error(names)
	}
}

func TestPartitionAll(t *testing.T) {
	s := newSite(t)
	b := s.bridge("b", nil)
	attach(t, b, "x", "y")
	b.Switch().PartitionAll()
	if !b.Switch().IsPartitioned("x", "y") {
		t.Error("not partitioned")
	}
	b.Switch().Unpartition("x", "y")
	must(t, b.Detach(t.Context(), "x", ""))
	attach(t, b, "x")
	if !b.Switch().IsPartitioned("x", "y") {
		t.Error("a VM that was attached later does not fall under the partition of all")
	}
	if b.Hold(1) != 2 || b.Hold(0) != 2 {
		t.Error("wrong number of holders")
	}
	n, err := b.NIC("y", "")
	must(t, err)
	must(t, n.Disconnect(t.Context())) // no VM is declared
	if n.carrier() {
		t.Error("it has a carrier")
	}
}
