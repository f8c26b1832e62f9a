package qmp

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair returns two ends of a connection with descriptors.
func socketPair(t *testing.T) (host, qemu net.Conn) {
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
		_ = f.Close()
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

// TestSyncEvents has events that take long to handle: what was sent before was handled after SyncEvents.
func TestSyncEvents(t *testing.T) {
	host, qemu := socketPair(t)
	var handled atomic.Int64
	c := Attach(host, func(Event) {
		time.Sleep(time.Millisecond) // as handlers take
		handled.Add(1)
	}, "")
	defer c.Close()
	for n := range int64(100) {
		if _, err := fmt.Fprintln(qemu, `{"event": "SHUTDOWN", "data": {}}`); err != nil {
			t.Fatal(err)
		}
		c.SyncEvents()
		if got := handled.Load(); got != n+1 {
			t.Fatalf("%d of %d events were handled", got, n+1)
		}
	}
	_ = qemu.Close()
	<-c.Done()
	c.SyncEvents() // does not wait for what cannot come
}
