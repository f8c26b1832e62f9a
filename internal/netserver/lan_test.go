package netserver

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"provium/internal/vnet"
)

// lan is a switch that servers and clients are on.
type lan struct {
	t  testing.TB
	sw *vnet.Switch
}

func newLAN(t testing.TB) *lan {
	l := &lan{t, vnet.New(vnet.Config{})}
	t.Cleanup(l.sw.Close)
	return l
}

// mac returns the hardware address number n.
func mac(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }

// at returns where number n is, with these addresses.
func (l *lan) at(n byte, addresses ...string) Config {
	c := Config{MAC: mac(n), Send: l.sw.AddPort(string('a' + rune(n))).Send}
	for _, a := range addresses {
		c.Addresses = append(c.Addresses, netip.MustParsePrefix(a))
	}
	return c
}

// receiver is a server or a client.
type receives interface {
	Receive(frame []byte)
	Close()
}

// join connects number n, and closes it at the end of the test.
func (l *lan) join(n byte, r receives) {
	inside := l.sw.AddPort(string('a' + rune(n))).Join(r.Receive)
	l.t.Cleanup(func() {
		inside.Close()
		r.Close()
	})
}

// inbox returns the frames that number n gets.
func (l *lan) inbox(n byte) *vnet.Inbox {
	l.t.Helper()
	i, err := l.sw.AddPort(string('a' + rune(n))).OpenInbox()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(i.Close)
	return i
}

// next returns the next frame, if it comes within the limit.
func next(i *vnet.Inbox, limit time.Duration) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	frame, err := i.Receive(ctx)
	if err != nil {
		return nil
	}
	return frame
}

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// long is a limit that a test reaches only when it fails.
const long = 20 * time.Second
