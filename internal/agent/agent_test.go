package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestRootMoves has PID 1 empty the root directory and move to another while operations
// come: those that find nothing are carried out again, those that come later wait.
func TestRootMoves(t *testing.T) {
	dir := t.TempDir()
	fill := func() { // makes what is in the next root directory
		if err := os.WriteFile(dir+"/file", []byte("text"), 0o755); err != nil {
			t.Error(err)
		}
	}
	var looks atomic.Int32
	var leaving atomic.Bool
	next := make(chan struct{})
	c := agenttest.ConnectExecutor(t, agent.Config{
		Root: func(ctx context.Context) (bool, error) {
			if looks.Add(1) == 2 { // after the first operation has found nothing
				fill()
				return true, nil
			}
			if !leaving.Load() {
				return false, nil
			}
			select {
			case <-next:
				fill()
				return leaving.CompareAndSwap(true, false), nil
			case <-ctx.Done():
				return false, context.Canceled
			}
		},
		RootMoves: leaving.Load,
	})
	empty := func() {
		if err := os.Remove(dir + "/file"); err != nil {
			t.Fatal(err)
		}
		looks.Store(0)
	}
	ctx := t.Context()
	for name, do := range map[string]func() error{
		"stat":  func() error { _, err := c.Stat(ctx, dir+"/file", true); return err },
		"read":  func() error { _, err := c.ReadFile(ctx, dir+"/file"); return err },
		"batch": func() error { return batchError(c.Batch(ctx, []guest.Op{guest.StatOp{Path: dir + "/file"}})) },
		"tail":  func() error { _, err := c.TailFile(ctx, dir+"/file", 0, false, 0); return err },
		"run": func() error {
			r := guest.RunRequest{Path: dir + "/file"}
			_, err := c.Run(ctx, r)
			var failed *guest.OpError
			if errors.As(err, &failed) && failed.Name == "ENOEXEC" { // it was found
				return nil
			}
			return err
		},
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		empty()
	}
	// Without a move the error stays.
	looks.Store(2)
	if _, err := c.Stat(ctx, dir+"/file", true); !hasErrno(err, "ENOENT") {
		t.Error(err)
	}
	// While PID 1 leaves, operations and system calls wait, to their limit.
	leaving.Store(true)
	why := errors.New("limit")
	limited, cancel := context.WithTimeoutCause(ctx, 20*time.Millisecond, why)
	defer cancel()
	if _, err := c.Stat(limited, dir+"/file", true); !errors.Is(err, why) {
		t.Error(err)
	}
	opened := make(chan *guest.SyscallResult)
	go func() {
		r, err := c.Syscall(ctx, &guest.Syscall{Nr: unix.SYS_OPEN, Bufs: [][]byte{append([]byte(dir+"/file"), 0)},
			Slots: []int{0}})
		if err != nil {
			t.Error(err)
		}
		opened <- r
	}()
	close(next)
	if r := <-opened; r == nil || r.Errno != 0 {
		t.Errorf("%+v", r)
	}
}

// batchError returns the error of a batch, or of its first operation.
func batchError(r []guest.Result, err error) error {
	if err == nil {
		err = r[0].Err
	}
	return err
}
