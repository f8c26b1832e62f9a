package agent_test

import (
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/agent/boot"
	"provium/internal/guest"
)

// TestSocketLink runs the link of transport = "vsock" over a unix socket: the host is there
// before the agent listens, works with it, leaves, and the next one is served.
func TestSocketLink(t *testing.T) {
	// Each side has its own, since calls write to it.
	at := unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "agent")}
	hostAt := at
	a := agent.New(agent.Config{})
	served := make(chan error, 1)
	listening := make(chan *boot.Socket, 1)
	go func() {
		time.Sleep(50 * time.Millisecond) // the guest boots; nothing depends on how long
		s, err := boot.Listen(unix.AF_UNIX, &at)
		if err != nil {
			served <- err
			return
		}
		listening <- s
		for {
			if err := a.Serve(s); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				served <- err
				return
			}
			if err := s.AwaitHost(); err != nil {
				served <- nil
				return
			}
		}
	}()
	for range 3 {
		conn, err := guest.DialSocket(t.Context(), unix.AF_UNIX, &hostAt)
		if err != nil {
			t.Fatal(err)
		}
		c, err := guest.Connect(t.Context(), conn, guest.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
	}
	(<-listening).Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	a.Wait()
}
