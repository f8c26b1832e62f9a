// Package agenttest joins a guest.Client and an Agent on this machine, for tests
// of the agent's packages over the real protocol. It boots no guest. Start with
// Connect.
package agenttest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/guest"
)

// Connect returns a client of a new agent. The test's end closes both.
func Connect(t testing.TB, agentConfig agent.Config, guestConfig guest.Config) *guest.Client {
	t.Helper()
	host, far := SocketPair(t)
	a := agent.New(agentConfig)
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	c, err := guest.Connect(t.Context(), host, guestConfig)
	if err != nil {
		t.Fatal(err)
	}
	// What the agent does at a limit is what is tested, not how soon on a busy machine.
	c.SetWatch(guest.Watch{Confirm: time.Minute})
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("serve: %v", err)
		}
		far.Close()
		a.Wait()
	})
	return c
}

// SocketPair returns two connected sockets.
func SocketPair(t testing.TB) (host, far net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var c [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if c[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return c[0], c[1]
}

// ReadAll reads a stream to its end.
func ReadAll(t testing.TB, s *guest.Stream) []byte {
	t.Helper()
	var all []byte
	for {
		p, err := s.Next(t.Context())
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p...)
	}
}

// ReadUntil reads a stream up to a text, which must end what has come by then.
func ReadUntil(t testing.TB, s *guest.Stream, text string) {
	t.Helper()
	var all []byte
	for !bytes.Contains(all, []byte(text)) {
		p, err := s.Next(t.Context())
		if err != nil {
			t.Fatalf("%v after %q", err, all)
		}
		all = append(all, p...)
	}
	if !bytes.HasSuffix(all, []byte(text)) {
		t.Fatalf("got %q, want it to end with %q", all, text)
	}
}
