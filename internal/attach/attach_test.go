package attach

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/msgpack"
	"provium/internal/topology"
	"provium/internal/wire"
)

// served is a guest that is served.
type served struct {
	vm      *lab.VM
	machine *fakemachine.Machine
	dir     string
	ctx     context.Context
}

func serve(t *testing.T) *served {
	t.Helper()
	machines := fakemachine.New(t)
	dir, err := os.MkdirTemp("", "attach") // short, since a socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host := &lab.Host{File: "tests/a.test.lua", Profiles: map[string]*lab.Profile{"p": {Name: "p", Accel: "tcg"}},
		TempDir: dir, Starter: machines, Images: machines, NoPrewarming: true}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	root := lab.New(host)
	vm, err := root.DeclareVM("box", "p", nil)
	if err == nil {
		err = vm.Boot(ctx, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if errs := root.CloseScope(context.Background()); len(errs) > 0 {
			t.Error(errs)
		}
	})
	stop, err := Serve(dir, host, func() string { return "paused" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &served{vm, machines.Last(), dir, ctx}
}

func (s *served) find(t *testing.T) *Run {
	t.Helper()
	runs := Find([]string{s.dir})
	if len(runs) != 1 || len(runs[0].Guests) != 1 {
		t.Fatalf("%+v", runs)
	}
	return &runs[0]
}

func TestFind(t *testing.T) {
	s := serve(t)
	r := s.find(t)
	g := r.Guests[0]
	if r.File != "tests/a.test.lua" || r.PID != os.Getpid() || r.Status != "paused" || g.Name != "box" ||
		g.Profile != "p" || g.State != "booted" || g.CID == 0 {
		t.Errorf("%+v", r)
	}
	info, err := os.Stat(filepath.Join(s.dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if err := os.Chmod(s.dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if runs := Find([]string{s.dir}); len(runs) > 0 {
		t.Error("a directory that others can enter was looked at")
	}
	link := s.dir + "-link"
	if err := errors.Join(os.Chmod(s.dir, 0o700), os.Symlink(s.dir, link)); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(link)
	if runs := Find([]string{link}); len(runs) > 0 {
		t.Error("a link was followed")
	}
}

// TestStaleSockets has the sockets of processes that were killed, and what is no socket.
func TestStaleSockets(t *testing.T) {
	dir, err := os.MkdirTemp("", "attach")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	stale, file := filepath.Join(dir, "1", socketName), filepath.Join(dir, socketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if runs := Find([]string{dir, filepath.Join(dir, "none")}); len(runs) > 0 {
		t.Error(runs)
	}
	if _, err := os.Lstat(stale); err == nil {
		t.Error("a socket that nobody serves is left")
	}
	if _, err := os.Lstat(file); err != nil {
		t.Error("a file that is no socket is gone")
	}
}

func TestCommand(t *testing.T) {
	s := serve(t)
	s.machine.Program("tool", func(p *fakemachine.Process) int {
		text, _ := io.ReadAll(p)
		p.Print(p.Args[1] + string(text) + strings.Repeat("x", 3*pieceSize))
		p.Complain("odd")
		return 7
	})
	r := s.find(t)
	var out, errOut bytes.Buffer
	code, err := r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"tool", "-x"}},
		&Streams{In: strings.NewReader("in"), Out: &out, Err: &errOut})
	if code != 7 || err != nil || out.String() != "-xin"+strings.Repeat("x", 3*pieceSize) || errOut.String() != "odd" {
		t.Errorf("%d, %v, %d bytes, %q", code, err, out.Len(), &errOut)
	}
	code, err = r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"nothing"}}, &Streams{Out: &out, Err: &out})
	if code != 127 || err == nil {
		t.Error(code, err)
	}
	code, err = r.Enter(s.ctx, &Enter{CID: 1, Args: []string{"true"}}, &Streams{Out: &out, Err: &out})
	if code != 125 || err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Error(code, err)
	}
	code, err = r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID}, &Streams{Out: &out, Err: &out})
	if code != 125 || err == nil {
		t.Error(code, err)
	}
}

// program runs until it is killed. The channels say that it has begun, and that it was killed.
func (s *served) program(name string) (begun, killed chan struct{}) {
	begun, killed = make(chan struct{}), make(chan struct{})
	s.machine.Program(name, func(p *fakemachine.Process) int {
		close(begun)
		<-p.Context.Done()
		close(killed)
		return 0
	})
	return begun, killed
}

func TestTerminal(t *testing.T) {
	s := serve(t)
	s.machine.Program("top", func(p *fakemachine.Process) int {
		if p.AwaitSize(wire.TerminalSize{Rows: 24, Cols: 80}) != nil {
			return 1
		}
		p.Print("ready")
		if p.AwaitSize(wire.TerminalSize{Rows: 50, Cols: 100}) != nil {
			return 2
		}
		key := make([]byte, 1)
		if _, err := p.Read(key); err != nil || key[0] != 3 {
			return 3
		}
		p.Print(strings.Join(p.Env, " "))
		return 9
	})
	r := s.find(t)
	keys, typing := io.Pipe()
	defer typing.Close()
	signals := make(chan os.Signal, 1)
	var mu sync.Mutex
	rows, cols := uint16(24), uint16(80)
	var screen bytes.Buffer
	code, err := r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"top"}, Env: []string{"TERM=xterm"},
		Terminal: &Size{24, 80}}, &Streams{In: keys, Signals: signals, Out: writerFunc(func(p []byte) (int, error) {
		if string(p) == "ready" {
			mu.Lock()
			rows, cols = 50, 100
			mu.Unlock()
			signals <- syscall.SIGWINCH
			go func() { _, _ = typing.Write([]byte{3}) }()
		}
		return screen.Write(p)
	}), Size: func() (uint16, uint16) {
		mu.Lock()
		defer mu.Unlock()
		return rows, cols
	}})
	if code != 9 || err != nil || screen.String() != "readyTERM=xterm" {
		t.Errorf("%d, %v, %q", code, err, &screen)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestVisitorIsInNobodysWay has the test work with the guest while a visitor is there.
func TestVisitorIsInNobodysWay(t *testing.T) {
	s := serve(t)
	begun, killed := s.program("waits")
	r := s.find(t)
	type result struct {
		code int
		err  error
	}
	done := make(chan result, 1)
	go func() {
		code, err := r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"waits"}},
			&Streams{Out: io.Discard, Err: io.Discard})
		done <- result{code, err}
	}()
	<-begun
	if !s.vm.IsQuiescent() || s.vm.OpenStreamCount() != 0 {
		t.Error("the visitor shows in what the test sees")
	}
	if err := s.vm.WriteFile(s.ctx, "/tmp/x", []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := s.vm.Snapshot(s.ctx, filepath.Join(t.TempDir(), "s.snap")); err != nil {
		t.Error(err)
	}
	<-killed
	if r := <-done; r.code != 125 || r.err == nil || !strings.Contains(r.err.Error(), "for a snapshot") {
		t.Error(r.code, r.err)
	}
	// Afterwards it can come back.
	if code, err := r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"true"}},
		&Streams{Out: io.Discard, Err: io.Discard}); code != 0 || err != nil {
		t.Error(code, err)
	}
}

// TestVisitorLeaves has visitors leave, and the guest end.
func TestVisitorLeaves(t *testing.T) {
	s := serve(t)
	r := s.find(t)
	begun, killed := s.program("waits")
	ctx, cancel := context.WithCancel(s.ctx)
	go func() {
		<-begun
		cancel()
	}()
	_, err := r.Enter(ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"waits"}},
		&Streams{Out: io.Discard, Err: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-killed
	begun, _ = s.program("more")
	ended := make(chan error, 1)
	go func() {
		<-begun
		ended <- s.vm.Shutdown(s.ctx)
	}()
	code, err := r.Enter(s.ctx, &Enter{CID: r.Guests[0].CID, Args: []string{"more"}},
		&Streams{Out: io.Discard, Err: io.Discard})
	if code != 125 || err == nil {
		t.Error(code, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if runs := Find([]string{s.dir}); len(runs) != 1 || len(runs[0].Guests) != 0 {
		t.Errorf("a guest that has ended is listed: %+v", runs)
	}
	if s.vm.State() != topology.Shutdown {
		t.Error(s.vm.State())
	}
}

// FuzzMessage reads whatever comes.
func FuzzMessage(f *testing.F) {
	for _, m := range []*message{{List: true}, {Enter: &Enter{CID: 1, Args: []string{"a"}, Terminal: &Size{1, 2}}},
		{Input: []byte("x")}, {Run: &Run{PID: 1, Guests: []Guest{{Name: "g"}}}}, {Exit: &exit{1, "e"}}} {
		b, err := msgpack.AppendFrame(nil, m, maxMessage)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &message{}
		if msgpack.ReadFrame(bytes.NewReader(b), m, maxMessage, errMalformed) != nil {
			return
		}
		once, err := msgpack.AppendFrame(nil, m, maxMessage)
		if err != nil {
			t.Fatal(err)
		}
		again := &message{}
		if err := msgpack.ReadFrame(bytes.NewReader(once), again, maxMessage, errMalformed); err != nil {
			t.Fatal(err)
		}
		twice, err := msgpack.AppendFrame(nil, again, maxMessage)
		if err != nil || !slices.Equal(once, twice) {
			t.Error("another message came back", err)
		}
	})
}
