package network

import (
	"strings"
	"testing"

	"provium/internal/netserver"
	"provium/internal/stream"
)

// TestPacedBridge has deterministic guests have a bridge for themselves.
func TestPacedBridge(t *testing.T) {
	s, wires := newSite(t), NewWires(0)
	a, b := s.vm("a"), s.vm("b")
	lan, other := s.bridge("lan", nil), s.bridge("other", nil)
	attach(t, lan, "a", "b")
	create := func(v *fakeVM, isPaced bool) (*Netdevs, error) {
		d := s.NewNetdevs(v, t.TempDir())
		if isPaced {
			d.Pace(wires, func(bool) {})
		}
		_, err := d.Create(s.Plan(v), false)
		return d, err
	}
	d, err := create(a, true)
	must(t, err)
	refused := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err = create(b, false)
	refused(err, "guests that are deterministic and guests that are not")
	_, err = lan.OpenPort(PortOpts{}, stream.Site{})
	refused(err, "a port would send when the host has the time")
	refused(lan.EnableUplink(t.Context()), "a gateway would send")
	_, err = lan.ServeDNS(nil, netserver.DNSConfig{}, stream.Site{})
	refused(err, "a server would send")
	_, err = other.OpenPort(PortOpts{}, stream.Site{})
	must(t, err)
	// When it has ended, the bridge is for all again.
	d.Close()
	p, err := lan.OpenPort(PortOpts{}, stream.Site{})
	must(t, err)
	_, err = create(a, true)
	refused(err, "and a port would send")
	p.Close()
	d, err = create(b, false)
	must(t, err)
	_, err = create(a, true)
	refused(err, "guests that are not")
	d.Close()
	d, err = create(a, true)
	must(t, err)
	d.Close()
}

// TestKeepNumbers has a fixture's bridges be numbered as if they had not been, and deterministic guests of a fixture
// that is built be apart from those of the file.
func TestKeepNumbers(t *testing.T) {
	s := newSite(t)
	first := s.bridge("first", nil)
	free := s.KeepNumbers()
	built := s.bridge("built", nil)
	numbers := built.v4
	must(t, built.Close(t.Context()))
	free()
	again := s.bridge("again", nil)
	if again.v4 != numbers || first.v4 == numbers {
		t.Errorf("%s, then %s after %s", first.v4, again.v4, numbers)
	}
	a, b := s.vm("a"), s.vm("b")
	attach(t, again, "a", "b")
	d, e := s.NewNetdevs(a, t.TempDir()), s.NewNetdevs(b, t.TempDir())
	d.Pace(NewWires(0), func(bool) {})
	e.Pace(NewWires(0), func(bool) {})
	_, err := d.Create(s.Plan(a), false)
	must(t, err)
	if _, err = e.Create(s.Plan(b), false); err == nil || !strings.Contains(err.Error(), "a fixture") {
		t.Error(err)
	}
	if !s.isPaced() {
		t.Error("no guest is deterministic")
	}
	d.Close()
	if s.isPaced() {
		t.Error("a guest is still deterministic")
	}
}
