package network

import (
	"strings"
	"testing"

	"provium/internal/netserver"
	"provium/internal/stream"
)

// TestPacedBridge has deterministic guests have a bridge for themselves.
func TestPacedBridge(t *testing.T) {
	s := newSite(t)
	a, b := s.vm("a"), s.vm("b")
	lan, other := s.bridge("lan", nil), s.bridge("other", nil)
	attach(t, lan, "a", "b")
	create := func(v *fakeVM, isPaced bool) (*Netdevs, error) {
		d := s.NewNetdevs(v, t.TempDir())
		if isPaced {
			d.Pace(func(bool) {})
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
