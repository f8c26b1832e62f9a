package uplink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"provium/internal/vnet/gateway"
)

// Echo accepts a request of ping for other networks. It returns false if nothing is
// carried out now.
func (s *Stack) Echo(packet []byte) bool {
	e, ok := s.begin()
	if !ok {
		return false
	}
	defer e.work.Done()
	request, ok := gateway.ParseEcho(packet)
	if !ok {
		return true
	}
	f := flow{protoEcho, netip.AddrPortFrom(request.From, request.ID), netip.AddrPortFrom(request.To, 0)}
	o, fresh := s.open(e, f)
	if o == nil {
		return true // too many: this one is lost
	}
	var err error
	if fresh {
		err = s.openEcho(e, f, o)
	}
	if err == nil {
		o.touch()
		if socket := s.echoSocket(o); socket != nil { // else another request is making it
			err = socket.send(request.Rest)
		}
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		why, ok := reason(err)
		if !ok {
			why = gateway.NoHost
		}
		s.cfg.Refuse(packet, why)
	}
	return true
}

// protoEcho stands for both versions in a flow: the addresses tell them apart.
const protoEcho = 1

func (s *Stack) echoSocket(o *outward) *echoSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o.echo
}

// openEcho makes the socket of a flow and starts to deliver its replies. The caller must
// be part of the era.
func (s *Stack) openEcho(e *era, f flow, o *outward) error {
	socket, err := dialEcho(f.to.Addr())
	if err != nil {
		s.forget(e, f)
		return err
	}
	s.mu.Lock()
	o.echo = socket
	s.mu.Unlock()
	e.work.Add(1)
	go func() {
		defer e.work.Done()
		defer s.forget(e, f)
		defer socket.Close()
		stop := context.AfterFunc(e.ctx, func() { socket.Close() })
		defer stop()
		buf := make([]byte, maxDatagram)
		for {
			n, err := o.read(socket, buf)
			if err != nil {
				return
			}
			if rest, ok := socket.reply(buf[:n]); ok {
				s.cfg.Deliver(gateway.EchoReply(f.to.Addr(), f.from.Addr(), f.from.Port(), rest))
			}
		}
	}()
	return nil
}

// echoSocket is a socket for ping to one address.
type echoSocket struct {
	*os.File
	v6, raw bool
	id      uint16 // of raw sockets; the kernel chooses that of others
}

// dialEcho makes a socket that needs no privilege if the host allows that
// (net.ipv4.ping_group_range), and else a raw one.
func dialEcho(to netip.Addr) (*echoSocket, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var addr unix.Sockaddr
	if to.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		addr = &unix.SockaddrInet6{Addr: to.As16()}
	} else {
		addr = &unix.SockaddrInet4{Addr: to.As4()}
	}
	s := &echoSocket{v6: to.Is6(), id: uint16(rand.Uint32())}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|flags, proto)
	if err != nil {
		s.raw = true
		var second error
		if fd, second = unix.Socket(family, unix.SOCK_RAW|flags, proto); second != nil {
			return nil, fmt.Errorf("echo socket: %w", err)
		}
	}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("echo socket: %w", err)
	}
	s.File = os.NewFile(uintptr(fd), "echo")
	return s, nil
}

// send sends a request: rest is what follows the identifier.
func (s *echoSocket) send(rest []byte) error {
	m := make([]byte, 6, 6+len(rest))
	m[0] = 8
	if s.v6 {
		m[0] = 128
	}
	binary.BigEndian.PutUint16(m[4:], s.id)
	m = append(m, rest...)
	if !s.v6 {
		binary.BigEndian.PutUint16(m[2:], gateway.Checksum(m))
	}
	_, err := s.Write(m)
	return err
}

// reply returns what follows the identifier in a reply to this socket.
func (s *echoSocket) reply(b []byte) (rest []byte, ok bool) {
	want := uint8(0)
	if s.v6 {
		want = 129
	} else if s.raw { // with the header of the packet
		if len(b) < 20 || len(b) < int(b[0]&15)*4 {
			return nil, false
		}
		b = b[int(b[0]&15)*4:]
	}
	if len(b) < 8 || b[0] != want || b[1] != 0 || s.raw && binary.BigEndian.Uint16(b[4:]) != s.id {
		return nil, false
	}
	return b[6:], true
}
