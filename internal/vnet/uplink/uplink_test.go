package uplink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"provium/internal/vnet/gateway"
)

var (
	net4     = netip.MustParsePrefix("10.77.0.0/24")
	net6     = netip.MustParsePrefix("fd00::/64")
	guestNet = netip.MustParsePrefix("10.77.0.2/24")
	outsider = netip.MustParseAddr("192.0.2.1")
)

// refusal is what a guest was told.
type refusal struct {
	start []byte
	why   gateway.Reason
}

// world is an uplink and a guest, which is a network stack like it.
type world struct {
	t       *testing.T
	up      *Stack
	guest   *Stack // its gateway's address is that of the guest
	refused chan refusal
	packets chan []byte // delivered ones that are no TCP or UDP
}

func newWorld(t *testing.T, cfg Config) *world {
	t.Helper()
	w := &world{t: t, refused: make(chan refusal, 100), packets: make(chan []byte, 100)}
	cfg.V4, cfg.V6 = net4, net6
	cfg.Refuse = func(start []byte, why gateway.Reason) { w.refused <- refusal{bytes.Clone(start), why} }
	cfg.Deliver = func(p []byte) {
		if p[9] == protoTCP || p[9] == protoUDP {
			w.guest.Local(bytes.Clone(p))
			return
		}
		w.packets <- bytes.Clone(p)
	}
	var err error
	if w.up, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.up.Close)
	w.guest, err = New(Config{V4: netip.MustParsePrefix("10.77.0.1/31"), V6: netip.MustParsePrefix("fd00:1::/64"),
		Refuse: func([]byte, gateway.Reason) {},
		Deliver: func(p []byte) {
			p = bytes.Clone(p)
			if netip.AddrFrom4([4]byte(p[16:20])) == w.up.addr4 {
				w.up.Local(p)
			} else {
				w.up.Outside(p)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(guestNet.Addr().AsSlice()), PrefixLen: 24}
	if err := w.guest.ip.AddProtocolAddress(nicID, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: own}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.guest.Close)
	return w
}

func (w *world) dial(to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	from := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(guestNet.Addr().AsSlice())}
	return gonet.DialTCPWithBind(ctx, w.guest.ip, from, fullAddress(to), ipv4.ProtocolNumber)
}

func (w *world) dialUDP(to netip.AddrPort) net.Conn {
	w.t.Helper()
	from, remote := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(guestNet.Addr().AsSlice())}, fullAddress(to)
	c, err := gonet.DialUDP(w.guest.ip, &from, &remote, ipv4.ProtocolNumber)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

func (w *world) nextRefusal() refusal {
	w.t.Helper()
	select {
	case r := <-w.refused:
		return r
	case <-time.After(20 * time.Second):
		w.t.Fatal("nothing was refused")
	}
	panic("unreachable")
}

// echoServer listens on the host's loopback and sends back what it receives.
func echoServer(t *testing.T) uint16 {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String()).Port()
}

func TestTCPToTheHost(t *testing.T) {
	w := newWorld(t, Config{})
	to := netip.AddrPortFrom(w.up.addr4, echoServer(t))
	if _, err := w.dial(to); err == nil {
		t.Fatal("connected while disabled")
	}
	w.up.Enable()
	c, err := w.dial(to)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*gonet.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d came back: %v", len(got), len(sent), err)
	}
}

func TestDisableEndsConnections(t *testing.T) {
	w := newWorld(t, Config{})
	w.up.Enable()
	c, err := w.dial(netip.AddrPortFrom(w.up.addr4, echoServer(t)))
	if err != nil {
		t.Fatal(err)
	}
	w.up.Disable()
	w.up.Disable()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(n, err)
	}
	w.up.Enable()
	if _, err := w.dial(netip.AddrPortFrom(w.up.addr4, echoServer(t))); err != nil {
		t.Error(err)
	}
}

// TestDisableLeavesTheSilent has a guest begin a connection and say no more.
func TestDisableLeavesTheSilent(t *testing.T) {
	dialed := make(chan struct{}, 1)
	w := newWorld(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		t.Cleanup(func() { b.Close() })
		dialed <- struct{}{}
		return a, nil
	}})
	w.up.Enable()
	src, dst := guestNet.Addr().As4(), outsider.As4()
	syn := []byte("\x12\x34\x00\x50\x00\x00\x00\x01\x00\x00\x00\x00\x50\x02\xff\xff\x00\x00\x00\x00")
	sum := gateway.Checksum(append(append(append(src[:], dst[:]...), 0, protoTCP, 0, byte(len(syn))), syn...))
	syn[16], syn[17] = byte(sum>>8), byte(sum)
	head := []byte("\x45\x00\x00\x28\x00\x00\x00\x00\x40\x06\x00\x00")
	packet := append(append(append(head, src[:4]...), dst[:4]...), syn...)
	sum = gateway.Checksum(packet[:20])
	packet[10], packet[11] = byte(sum>>8), byte(sum)
	// The guest is another one, which hears nothing.
	w.guest.Close()
	if !w.up.Outside(packet) {
		t.Fatal("not carried")
	}
	<-dialed
	disabled := make(chan struct{})
	go func() { w.up.Disable(); close(disabled) }()
	select {
	case <-disabled:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for the guest")
	}
}

// failing returns a Dial of a host without that network.
func failing(errno syscall.Errno) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}
	}
}

func TestRefusals(t *testing.T) {
	for errno, want := range map[syscall.Errno]gateway.Reason{syscall.ENETUNREACH: gateway.NoNetwork,
		syscall.EHOSTUNREACH: gateway.NoHost,
		syscall.ETIMEDOUT:    gateway.NoHost, syscall.EACCES: gateway.Prohibited} {
		w := newWorld(t, Config{Dial: failing(errno)})
		w.up.Enable()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			from := tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(guestNet.Addr().AsSlice())}
			_, _ = gonet.DialTCPWithBind(ctx, w.guest.ip, from, fullAddress(netip.AddrPortFrom(outsider, 80)),
				ipv4.ProtocolNumber)
		}()
		r := w.nextRefusal()
		if f, ok := begins(r.start); !ok || r.why != want || f.to != netip.AddrPortFrom(outsider, 80) ||
			f.proto != protoTCP {
			t.Errorf("%v: %v % x", errno, r.why, r.start)
		}
		cancel()
		<-done
		_, _ = w.dialUDP(netip.AddrPortFrom(outsider, 53)).Write([]byte("x"))
		for {
			r := w.nextRefusal() // the connection may have been tried again
			if f, ok := begins(r.start); ok && f.proto == protoUDP && r.why == want {
				break
			}
		}
	}
	w := newWorld(t, Config{Dial: failing(syscall.ECONNREFUSED)})
	w.up.Enable()
	if _, err := w.dial(netip.AddrPortFrom(outsider, 80)); err == nil || len(w.refused) > 0 {
		t.Errorf("%v, %d refusals (a reset is wanted)", err, len(w.refused))
	}
}

// datagramEcho is echoServer for datagrams; change alters them.
func datagramEcho(t *testing.T, change func([]byte) []byte) netip.AddrPort {
	t.Helper()
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	go func() {
		buf := make([]byte, maxDatagram)
		for {
			n, from, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			if p := change(buf[:n]); p != nil {
				_, _ = in.WriteTo(p, from)
			}
		}
	}()
	return netip.MustParseAddrPort(in.LocalAddr().String())
}

func same(p []byte) []byte { return p }

func TestDatagrams(t *testing.T) {
	w := newWorld(t, Config{})
	w.up.Enable()
	c := w.dialUDP(netip.AddrPortFrom(w.up.addr4, datagramEcho(t, same).Port()))
	for _, size := range []int{1, 1400, 9000} { // the last one in fragments
		sent := bytes.Repeat([]byte{'x'}, size)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, maxDatagram)
		if n, err := c.Read(buf); err != nil || n != size {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
	}
	// Nobody listens there.
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(in.LocalAddr().String())
	in.Close()
	c = w.dialUDP(netip.AddrPortFrom(w.up.addr4, closed.Port()))
	_, _ = c.Write([]byte("x"))
	if r := w.nextRefusal(); r.why != gateway.NoPort {
		t.Error(r.why)
	}
}

func TestNames(t *testing.T) {
	silent := datagramEcho(t, func([]byte) []byte { return nil })
	server := datagramEcho(t, func(p []byte) []byte { return append([]byte{p[0], p[1], p[2] | 0x80, 0}, p[4:]...) })
	servers := []netip.AddrPort{server}
	w := newWorld(t, Config{Resolvers: func() []netip.AddrPort { return servers }})
	w.up.Enable()
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")
	ask := func() []byte {
		t.Helper()
		c := w.dialUDP(netip.AddrPortFrom(w.up.addr4, namePort))
		if _, err := c.Write(query); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, maxDatagram)
		n, err := c.Read(buf)
		if err != nil || n != len(query) {
			t.Fatal(n, err)
		}
		return buf[:n]
	}
	if a := ask(); a[2] != 0x81 || a[3] != 0 {
		t.Errorf("% x", a)
	}
	servers = []netip.AddrPort{silent, server} // after a while the next one is asked
	if a := ask(); a[2] != 0x81 || a[3] != 0 {
		t.Errorf("% x", a)
	}
	servers = nil
	if a := ask(); a[2] != 0x81 || a[3]&15 != 2 {
		t.Errorf("% x (SERVFAIL is wanted)", a)
	}
	tcp := echoServer(t)
	servers = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), tcp)}
	c, err := w.dial(netip.AddrPortFrom(w.up.addr4, namePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write(query)
	if _, err := io.ReadFull(c, make([]byte, len(query))); err != nil {
		t.Error(err)
	}
}

func TestResolvers(t *testing.T) {
	got := ParseResolvers([]byte(
		"# x\nsearch y\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \nnameserver x\nnameserver\n"))
	if len(got) != 2 || got[0].String() != "192.0.2.53:53" || got[1].String() != "[2001:db8::53]:53" {
		t.Error(got)
	}
	if got := ParseResolvers(nil); len(got) != 1 || got[0].String() != "127.0.0.1:53" {
		t.Error(got)
	}
}

func TestPing(t *testing.T) {
	w := newWorld(t, Config{})
	loopback := netip.MustParseAddr("127.0.0.1")
	// A reply with both ends exchanged and another type is a request.
	request := gateway.EchoReply(guestNet.Addr(), loopback, 77, []byte("\x00\x05data"))
	request[20] = 8
	request[22], request[23] = 0, 0
	sum := gateway.Checksum(request[20:])
	request[22], request[23] = byte(sum>>8), byte(sum)
	if w.up.Echo(request) {
		t.Fatal("carried while disabled")
	}
	w.up.Enable()
	for range 2 {
		if !w.up.Echo(request) {
			t.Fatal("not carried")
		}
		want := gateway.EchoReply(loopback, guestNet.Addr(), 77, []byte("\x00\x05data"))
		select {
		case got := <-w.packets:
			if !bytes.Equal(got, want) {
				t.Errorf("% x, want % x", got, want)
			}
		case r := <-w.refused: // a user without the right to ping
			t.Logf("the host allows no ping: %v", r.why)
		case <-time.After(20 * time.Second):
			t.Fatal("no reply")
		}
	}
}

func TestForward(t *testing.T) {
	w := newWorld(t, Config{})
	// The guest's services: its stack carries what it does not know out to us.
	w.guest.Enable()
	w.guest.cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		a, b := net.Pipe()
		go func() {
			defer b.Close()
			buf := make([]byte, 100)
			n, _ := b.Read(buf)
			_, _ = b.Write(append([]byte(network+" "), buf[:n]...))
		}()
		return a, nil
	}
	to := netip.AddrPortFrom(guestNet.Addr(), 80)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() { w.up.Forward(ln, to); done <- struct{}{} }()
	go func() { w.up.ForwardDatagrams(in, to); done <- struct{}{} }()
	for network, address := range map[string]string{"tcp": ln.Addr().String(), "udp": in.LocalAddr().String()} {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = c.Write([]byte("hello"))
		buf := make([]byte, 100)
		if n, err := c.Read(buf); string(buf[:n]) != network+" hello" {
			t.Errorf("%s: %q %v", network, buf[:n], err)
		}
	}
	ln.Close()
	in.Close()
	<-done
	<-done
}

// FuzzInject checks that guests get valid packets only, and that what is refused was sent.
func FuzzInject(f *testing.F) {
	f.Add(gateway.EchoReply(guestNet.Addr(), outsider, 1, []byte("data")))
	f.Add([]byte("\x45\x00\x00\x20\x00\x00\x00\x00\x40\x11\x00\x00\x0a\x4d\x00\x02" +
		"\xc0\x00\x02\x01\x00\x10\x00\x35\x00\x0c\x00\x00abcd"))
	f.Fuzz(func(t *testing.T, packet []byte) {
		s, err := New(Config{V4: net4, V6: net6, Dial: failing(syscall.ENETUNREACH),
			Deliver: func(p []byte) {
				switch header.IPVersion(p) {
				case header.IPv4Version:
					ip := header.IPv4(p)
					if !ip.IsValid(len(p)) || int(ip.TotalLength()) != len(p) || !ip.IsChecksumValid() {
						t.Errorf("delivered % x", p)
					}
				case header.IPv6Version:
					if ip := header.IPv6(p); !ip.IsValid(len(p)) || header.IPv6MinimumSize+
						int(ip.PayloadLength()) != len(p) {
						t.Errorf("delivered % x", p)
					}
				default:
					t.Errorf("delivered % x", p)
				}
			},
			Refuse: func(start []byte, _ gateway.Reason) {
				if len(start) == 0 || len(start) > len(packet) {
					t.Errorf("refused % x of % x", start, packet)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Enable()
		s.Local(bytes.Clone(packet))
		s.Outside(bytes.Clone(packet))
	})
}
