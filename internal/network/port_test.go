package network

import (
	"context"
	"errors"
	"strings"
	"testing"

	"provium/internal/stream"
	"provium/internal/vnet"
)

func openPort(t *testing.T, b *Bridge, o PortOpts) *Port {
	t.Helper()
	p, err := b.OpenPort(o, stream.Site{})
	must(t, err)
	return p
}

// A test exchanges frames with a guest.
func TestPort(t *testing.T) {
	s := newSite(t)
	vm := s.vm("a")
	lan := s.bridge("lan", nil)
	attach(t, lan, "a")
	vm.boot(t, s)
	awaitLive(t, lan)
	nic, err := lan.NIC("a", "")
	must(t, err)
	slot := vm.machine.slots()[0]

	p := openPort(t, lan, PortOpts{})
	vm.sendFrame(t, slot, textFrame(nic, "hello"))
	frame, err := p.Receive(t.Context())
	if err != nil || !hasText("hello")(frame) {
		t.Fatalf("%x, %v", frame, err)
	}
	must(t, p.Send(frameOf(nic.mac, p.mac, 0x88b5, []byte("welcome")...)))
	vm.awaitFrame(t, slot, hasText("welcome"))

	for size, ok := range map[int]bool{0: false, 13: false, 14: true, vnet.MaxFrame: true, vnet.MaxFrame + 1: false} {
		if err := p.Send(make([]byte, size)); (err == nil) != ok {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Receive(ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	p.Close()
	p.Close()
	if err := p.Send(frame); !errors.Is(err, ErrPortClosed) {
		t.Error(err)
	}
	if _, err := p.Receive(t.Context()); !errors.Is(err, ErrPortClosed) {
		t.Error(err)
	}
}

func TestPortNames(t *testing.T) {
	s := newSite(t)
	s.vm("a")
	s.vm("port1")
	lan := s.bridge("lan", nil)
	attach(t, lan, "a")
	for _, want := range []string{"port0", "port2", "port3"} {
		if p := openPort(t, lan, PortOpts{}); p.Name() != want || lan.Port(want) != p {
			t.Errorf("%s, want %s", p, want)
		}
	}
	lan.Port("port2").Close()
	if p := openPort(t, lan, PortOpts{}); p.Name() != "port2" || p.MAC() == lan.Port("port0").MAC() {
		t.Error(p, p.MAC())
	}
	for name, want := range map[string]string{"a": "two members called `a`", "port0": "two members called `port0`",
		"port1": "two members", ".1": "port name `.1` is not valid", "x/y": "not valid"} {
		_, err := lan.OpenPort(PortOpts{Name: name}, stream.Site{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := lan.Attach(t.Context(), []Endpoint{{Name: "port0"}})
	if err == nil || !strings.Contains(err.Error(), "cannot have two members called `port0`: a port has the name") {
		t.Error(err)
	}
	if got := strings.Join(lan.Members(), " "); got != "a" {
		t.Error(got)
	}
	p := lan.Port("port0")
	must(t, lan.Close(t.Context()))
	if _, err := p.Receive(t.Context()); !errors.Is(err, ErrPortClosed) {
		t.Error(err)
	}
	if _, err := lan.OpenPort(PortOpts{}, stream.Site{}); err == nil || !strings.Contains(err.Error(), "is closed") {
		t.Error(err)
	}
}

// A restore in place brings back the rules of open ports, and no others.
func TestPortsAndSnapshots(t *testing.T) {
	s := newSite(t)
	s.vm("a")
	lan := s.bridge("lan", nil)
	attach(t, lan, "a")
	stays, goes := openPort(t, lan, PortOpts{Name: "stays"}), openPort(t, lan, PortOpts{Name: "goes"})
	for _, name := range []string{"stays", "goes"} {
		lan.Switch().Partition("a", name)
		lan.Switch().Isolate(name, true)
	}
	all := save(t, s)
	goes.Close()
	lan.Switch().Reset()
	must(t, openPort(t, lan, PortOpts{Name: "new"}).Send(frameOf(broadcast, goes.mac, 0x88b5)))
	all.restore(t, s, false)
	sw := lan.Switch()
	if !sw.IsPartitioned("a", "stays") || !sw.IsIsolated("stays") || sw.IsPartitioned("a", "goes") ||
		sw.IsIsolated("goes") {
		t.Error("rules of ports")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if f, err := stays.Receive(ended); err == nil {
		t.Errorf("%x came before the restore", f)
	}
}

func TestPortDrops(t *testing.T) {
	s := newSite(t)
	lan := s.bridge("lan", nil)
	from, to := openPort(t, lan, PortOpts{}), openPort(t, lan, PortOpts{Promiscuous: true})
	frame := frameOf(broadcast, from.mac, 0x88b5, make([]byte, vnet.MaxPayload)...)
	sent := uint64(0)
	for ; to.Dropped() < 3; sent++ {
		must(t, from.Send(frame))
	}
	if c := to.Counters(); c.RxPackets != sent-3 || c.Errors != 3 {
		t.Errorf("%+v", c)
	}
	if a, b := to.TakeDropped(), to.TakeDropped(); a != 3 || b != 0 {
		t.Error(a, b)
	}
	must(t, from.Send(frame))
	if n := to.TakeDropped(); n != 1 || to.Dropped() != 4 {
		t.Error(n)
	}
}
