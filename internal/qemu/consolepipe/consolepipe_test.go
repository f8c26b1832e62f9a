package consolepipe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// testPipe returns a Pipe and the guest's end of it.
func testPipe(t *testing.T) (*Pipe, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	host, far := os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest")
	guest, err := net.FileConn(far)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	t.Cleanup(func() { host.Close(); guest.Close() })
	p, err := New(host, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, guest
}

// TestConsoleWritesDoNotInterruptEachOther gives up a write that hangs while another
// one waits, which must get through whole.
func TestConsoleWritesDoNotInterruptEachOther(t *testing.T) {
	big, small := make([]byte, 4<<20), []byte("second")
	errStop := errors.New("stop")
	for range 50 {
		p, guest := testPipe(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		type result struct {
			n   int
			err error
		}
		first, second := make(chan result, 1), make(chan result, 1)
		go func() {
			n, err := p.Write(ctx, big)
			first <- result{n, err}
		}()
		for len(p.turn) == 0 { // until it has its turn
			select {
			case r := <-first:
				t.Fatal(r)
			default:
			}
		}
		go func() {
			n, err := p.Write(t.Context(), small)
			second <- result{n, err}
		}()
		cancel(errStop)
		r := <-first
		if r.err != errStop {
			t.Fatal(r)
		}
		read := make([]byte, r.n+len(small))
		if _, err := io.ReadFull(guest, read); err != nil || !bytes.HasSuffix(read, small) {
			t.Fatalf("%q, %v", read[max(0, len(read)-len(small)):], err)
		}
		if r := <-second; r.err != nil || r.n != len(small) {
			t.Fatal(r)
		}
	}
}

func TestConsoleWriteGivenUp(t *testing.T) {
	p, guest := testPipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := p.Write(ctx, []byte("x")); n != 0 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
	p.turn <- struct{}{} // somebody writes
	if n, err := p.Write(ctx, []byte("x")); n != 0 || !errors.Is(err, context.Canceled) {
		t.Error(n, err)
	}
	<-p.turn
	guest.Close()
	if _, err := p.Write(t.Context(), make([]byte, 1<<20)); err == nil {
		t.Error("written to a console that is closed")
	}
}

func TestDigest(t *testing.T) {
	one, a := testPipe(t)
	other, b := testPipe(t)
	type printed struct {
		to   net.Conn
		text string
	}
	seen := map[string]bool{Digest(one, other): true}
	for _, p := range []printed{{a, "x"}, {b, "x"}, {b, "y"}} {
		if _, err := p.to.Write([]byte(p.text)); err != nil {
			t.Fatal(err)
		}
		one.Sync()
		other.Sync()
		if d := Digest(one, other); seen[d] {
			t.Errorf("%s was seen before", d)
		} else {
			seen[d] = true
		}
	}
	if first, again := Digest(one, other), Digest(one, other); again != first {
		t.Error("it changes by itself")
	}
}
