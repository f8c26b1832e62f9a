package vnet

import (
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unixPair returns two ends of a stream of a unix socket, as QEMU's are.
func unixPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]net.Conn, 2)
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "end")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return ends[0], ends[1]
}

func TestQuiet(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	sender, port := s.AddPort("a"), s.AddPort("b")
	release, ok := port.Quiet()
	release()
	if !ok {
		t.Error("a port without a connection is not quiet")
	}
	ours, theirs := unixPair(t)
	served := make(chan error, 1)
	go func() { served <- port.Serve(ours) }()
	for !port.IsLive() {
		time.Sleep(time.Millisecond)
	}
	one := make([]byte, prefixLen+60)
	read := func() {
		t.Helper()
		_ = theirs.SetReadDeadline(time.Now().Add(20 * time.Second))
		for n := 0; n < len(one); {
			more, err := theirs.Read(one[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += more
		}
	}
	sender.Send(frame(broadcast, mac(1), 1, 60))
	read() // it is written: the next one will be
	for range 100 {
		sender.Send(frame(broadcast, mac(1), 2, 60))
		release, _ := port.Quiet() // it may be on its way to the writer
		release()
		read()
	}

	awaitQuiet := func(want bool) (release func()) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			release, ok := port.Quiet()
			if ok == want {
				return release
			}
			release()
			if time.Now().After(deadline) {
				t.Fatalf("quiet is %v", ok)
			}
		}
	}
	release = awaitQuiet(true) // the writer may not have returned
	again, ok := port.Quiet()
	again()
	if ok {
		t.Error("it is held twice")
	}
	sender.Send(frame(broadcast, mac(1), 3, 60))
	_ = theirs.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := theirs.Read(one); err == nil {
		t.Fatalf("%d bytes came while frames are held back", n)
	}
	release()
	read()
	if got := number(one[prefixLen:]); got != 3 {
		t.Errorf("frame %d", got)
	}

	// What was not read is seen.
	sender.Send(frame(broadcast, mac(1), 4, 60))
	awaitQuiet(false)()
	theirs.Close()
	<-served
}
