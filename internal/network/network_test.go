package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"provium/internal/guest"
)

// fakeVM is a station whose guest, if it runs, records its configurations.
type fakeVM struct {
	name string
	err  error // of SyncNetwork

	mu      sync.Mutex
	synced  int
	machine *fakeMachine // nil: no guest runs
	devices *Netdevs
	config  *guest.Network // the latest
}

func (v *fakeVM) Name() string { return v.name }

func (v *fakeVM) SyncNetwork(ctx context.Context) error {
	v.mu.Lock()
	v.synced++
	err, machine := v.err, v.machine
	v.mu.Unlock()
	if err != nil || machine == nil {
		return err
	}
	return v.devices.Sync(ctx, machine, v)
}

// Network is the guest's agent.
func (v *fakeVM) Network(_ context.Context, config *guest.Network) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.config = config
	return nil
}

func (v *fakeVM) syncs() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.synced
	v.synced = 0
	return n
}

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

func (s *site) lookup(name string) (Station, bool) {
	if v, ok := s.vms[name]; ok {
		return v, true
	}
	return nil, false
}

func (s *site) vm(name string) *fakeVM {
	v := &fakeVM{name: name}
	s.vms[name] = v
	return v
}

func (s *site) bridge(name string, opts *BridgeOpts) *Bridge {
	return s.NewBridge(BridgeConfig{Name: name, Lab: "provium", Lookup: s.lookup, Opts: opts})
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
	for i := range lastHost - firstHost + 1 {
		names = append(names, fmt.Sprint("v", i))
	}
	attach(t, b, names...)
	wantError(t, b.Attach(t.Context(), endpoints("more")), "full", "253 of at most 253")
	attach(t, c, names[0])
	seen := map[string]bool{}
	for _, bridge := range []*Bridge{b, c} {
		for _, name := range bridge.Members() {
			n, err := bridge.NIC(name)
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
	x, _ := b.NIC("v0")
	y, _ := again.NIC("v0")
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
	for name, want := range map[string]string{"a": "a", "eth0": "a", "eth2": "c", "enp0s1": "b", "enp0s3": "a",
		"ens4": "b", "eth3": "", "ens6": "", "x": "", "eth-1": ""} {
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
