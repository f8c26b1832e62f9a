package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"provium/internal/agent"
	"provium/internal/agent/agenttest"
	"provium/internal/guest"
)

// connect joins a Client and an Agent by a socket pair, both on this machine.
func connect(t testing.TB) *guest.Client {
	t.Helper()
	return agenttest.ConnectExecutor(t, agent.Config{Version: "test", GuestOS: "linux test", Features: []string{"x"}})
}

func hasErrno(err error, name string) bool {
	var op *guest.OpError
	return errors.As(err, &op) && op.Name == name && op.Errno != 0
}

func TestBatch(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	big := bytes.Repeat([]byte("abc"), 300_000)
	ops := []guest.Op{
		guest.WriteFileOp{Path: dir + "/a", Data: []byte("1")},
		guest.WriteFileOp{Path: dir + "/no/b", Data: big}, // fails: its bytes must be skipped
		guest.WriteFileOp{Path: dir + "/c", Data: big, Perm: guest.Mode(0o600)},
		guest.ReadFileOp{Path: dir + "/c"},
		guest.StatOp{Path: dir + "/missing", Follow: true},
		guest.RunOp{RunRequest: guest.RunRequest{Path: "cat", Stdin: big}},
		guest.RunOp{RunRequest: guest.RunRequest{Path: "true", Stdin: big}},
		guest.ReadFileOp{Path: dir + "/a"},
		guest.ListDirOp{Path: dir},
		guest.MkdirOp{Path: dir + "/d"},
		guest.RenameOp{From: dir + "/a", To: dir + "/d/a"},
		guest.UnlinkOp{Path: dir + "/c"},
		guest.RunOp{RunRequest: guest.RunRequest{Shell: "echo $0 | tee /dev/stderr"}},
	}
	r, err := c.Batch(t.Context(), ops)
	if err != nil {
		t.Fatal(err)
	}
	if len(r) != len(ops) {
		t.Fatal(len(r))
	}
	for i := range r {
		if failed := i == 1 || i == 4; failed != hasErrno(r[i].Err, "ENOENT") || !failed && r[i].Err != nil {
			t.Error(i, r[i].Err)
		}
	}
	if !bytes.Equal(r[3].Data, big) || !bytes.Equal(r[5].Run.Stdout, big) || string(r[7].Data) != "1" ||
		fmt.Sprint(r[8].Entries) != "[{a file} {c file}]" || string(r[12].Run.Stderr) != "/bin/sh\n" {
		t.Errorf("%+v", r[12].Run)
	}
	many := make([]guest.Op, 700)
	for i := range many {
		many[i] = guest.WriteFileOp{Path: fmt.Sprintf("%s/m%d", dir, i), Data: big[:4000]}
	}
	r, err = c.Batch(t.Context(), many)
	if err != nil || len(r) != len(many) {
		t.Fatal(err)
	}
	for i := range many {
		many[i] = guest.ReadFileOp{Path: fmt.Sprintf("%s/m%d", dir, i)}
	}
	if r, err = c.Batch(t.Context(), many); err != nil {
		t.Fatal(err)
	}
	for i := range r {
		if !bytes.Equal(r[i].Data, big[:4000]) {
			t.Fatal(i, r[i].Err, len(r[i].Data))
		}
	}
}

func TestClock(t *testing.T) {
	c := connect(t)
	a, err := c.ClockGet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Sleep(t.Context(), time.Millisecond); err != nil {
		t.Fatal(err)
	}
	b, err := c.ClockGet(t.Context())
	if err != nil || b.MonotonicNS-a.MonotonicNS < 1e6 || b.BoottimeNS < a.BoottimeNS {
		t.Error(a, b, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	time.AfterFunc(time.Millisecond, func() { cancel(why) })
	if err := c.Sleep(ctx, time.Hour); !errors.Is(err, why) {
		t.Error(err)
	}
}

// TestManyAtOnce has bulk both ways, commands and small operations share the
// link.
func TestManyAtOnce(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	blob := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{2}).Read(blob)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(3)
		name := fmt.Sprintf("%s/%d", dir, i)
		go func() {
			defer wg.Done()
			for range 3 {
				if err := c.WriteFile(t.Context(), name, blob, guest.Perm{}); err != nil {
					t.Error(err)
				}
				if p, err := c.ReadFile(t.Context(), name); err != nil || !bytes.Equal(p, blob) {
					t.Error(len(p), err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			for range 10 {
				if r, err := c.Run(t.Context(), guest.RunRequest{Path: "cat", Stdin: blob[:100_000]}); err != nil ||
					!bytes.Equal(r.Stdout, blob[:100_000]) {
					t.Error(err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			for range 500 {
				if err := c.Ping(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestLinkLoss(t *testing.T) {
	why := errors.New("guest panicked")
	host, far := agenttest.SocketPair(t)
	a := agent.New(agent.Config{})
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	c, err := guest.Connect(t.Context(), host, guest.Config{Lost: func(err error) error {
		if !errors.Is(err, guest.ErrLinkLost) {
			t.Error(err)
		}
		return why
	}})
	if err != nil {
		t.Fatal(err)
	}
	pending := make(chan error, 1)
	go func() { pending <- c.Sleep(t.Context(), time.Hour) }()
	if err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := far.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := <-pending; !errors.Is(err, why) {
		t.Error(err)
	}
	<-c.Done()
	if err := c.Ping(t.Context()); !errors.Is(err, why) || c.Err() != why {
		t.Error(err)
	}
	<-served
	far.Close()
	a.Wait()
}
