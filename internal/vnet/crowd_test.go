package vnet_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/vnet"
)

// member is a guest's end of a connection, with the protocol of QEMU's streams.
type member struct {
	t    *testing.T
	name string
	port *vnet.Port
	conn net.Conn
}

// join plugs a guest in over a unix socket, as QEMU does.
func join(t *testing.T, s *vnet.Switch, name string) *member {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	m := &member{t: t, name: name, port: s.AddPort(name), conn: ends[1]}
	var served sync.WaitGroup
	served.Add(1)
	go func() {
		defer served.Done()
		_ = m.port.Serve(ends[0])
	}()
	t.Cleanup(func() {
		m.conn.Close()
		served.Wait()
	})
	for !m.port.IsLive() {
		time.Sleep(time.Millisecond)
	}
	return m
}

// address returns the address of guest number n.
func address(n int) [6]byte { return [6]byte{2, 0, 0, 0, 0, byte(n)} }

func (m *member) send(dst, src [6]byte, text string) {
	m.t.Helper()
	frame := append(append(append([]byte{}, dst[:]...), src[:]...), 0x88, 0xb5)
	frame = append(frame, text...)
	if _, err := m.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		m.t.Errorf("%s: %v", m.name, err)
	}
}

// next returns the text of the next frame.
func (m *member) next() string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	var length [4]byte
	if _, err := io.ReadFull(m.conn, length[:]); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(m.conn, frame); err != nil {
		m.t.Fatalf("%s: %v", m.name, err)
	}
	return string(frame[14:])
}

var everybody = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// TestCrowd has 64 guests greet everybody and then each other.
func TestCrowd(t *testing.T) {
	const guests = 64
	s := vnet.New(vnet.Config{})
	defer s.Close()
	all := make([]*member, guests)
	for i := range all {
		all[i] = join(t, s, fmt.Sprint("g", i))
	}
	for i, m := range all {
		m.send(everybody, address(i), fmt.Sprint("from ", i))
	}
	for i, m := range all {
		heard := map[string]bool{}
		for range guests - 1 {
			heard[m.next()] = true
		}
		if len(heard) != guests-1 || heard[fmt.Sprint("from ", i)] {
			t.Fatalf("%s heard %d others", m.name, len(heard))
		}
	}
	for i, m := range all {
		m.send(address((i+1)%guests), address(i), fmt.Sprint("for ", (i+1)%guests))
	}
	for i, m := range all {
		if got := m.next(); got != fmt.Sprint("for ", i) {
			t.Errorf("%s got %q", m.name, got)
		}
	}
	for _, m := range all { // what they have sent has arrived by now
		if c := m.port.Counters(); c.RxPackets != guests || c.TxPackets != 2 || c.Errors != 0 {
			t.Errorf("%s: %+v", m.name, c)
		}
	}
}

// TestMovingAddress has one hardware address come from two guests in turns: who
// spoke last has it.
func TestMovingAddress(t *testing.T) {
	s := vnet.New(vnet.Config{})
	defer s.Close()
	a, b, c := join(t, s, "a"), join(t, s, "b"), join(t, s, "c")
	moving := address(9)
	for round := range 50 {
		here, there := a, b
		if round%2 == 1 {
			here, there = b, a
		}
		here.send(everybody, moving, "here")
		for _, m := range []*member{there, c} {
			if got := m.next(); got != "here" {
				t.Fatalf("%s got %q", m.name, got)
			}
		}
		c.send(moving, address(3), fmt.Sprint(round))
		if got := here.next(); got != fmt.Sprint(round) {
			t.Fatalf("round %d: %s got %q", round, here.name, got)
		}
	}
}

// TestDetached has a guest go on sending after it was taken off: nobody hears it,
// and nothing reaches it.
func TestDetached(t *testing.T) {
	s := vnet.New(vnet.Config{})
	defer s.Close()
	a, b, c := join(t, s, "a"), join(t, s, "b"), join(t, s, "c")
	a.send(everybody, address(1), "before")
	b.next()
	c.next()
	a.port.SetUp(false)
	for range 100 {
		a.send(everybody, address(1), "ghost")
	}
	b.send(address(1), address(2), "lost")
	b.send(everybody, address(2), "alive")
	if got := c.next(); got != "alive" {
		t.Errorf("c got %q", got)
	}
	s.RemovePort("a")
	b.send(everybody, address(2), "still")
	if got := c.next(); got != "still" {
		t.Errorf("c got %q", got)
	}
}

// TestJoin has a member of this process among the guests.
func TestJoin(t *testing.T) {
	s := vnet.New(vnet.Config{})
	defer s.Close()
	a := join(t, s, "a")
	port := s.AddPort(vnet.GatewayName)
	heard := make(chan string, 10)
	inside := port.Join(func(frame []byte) { heard <- string(frame[14:]) })
	s.Isolate("a", true)
	a.send(everybody, address(1), "hello")
	if got := <-heard; got != "hello" {
		t.Error(got)
	}
	if !s.IsolatedAddress(address(1)) || s.IsolatedAddress(address(2)) {
		t.Error("isolation goes by where an address was heard")
	}
	one := address(1)
	port.Send(append(append(one[:], 2, 0, 0, 0, 0, 7, 0x88, 0xb5), "welcome"...))
	if got := a.next(); got != "welcome" {
		t.Error(got)
	}
	s.RemovePort(vnet.GatewayName)
	inside.Close()
}
