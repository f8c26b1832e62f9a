package byhand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/localvmm"
	"provium/internal/wire"
)

// fake is a guest on a fake machine.
type fake struct {
	*Guest
	machine *fakemachine.Machine
	ctx     context.Context
	notes   []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	machines := fakemachine.New(t)
	host := &lab.Host{Profiles: map[string]*lab.Profile{"p": {Name: "p", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines, NoPrewarming: true}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	g, err := Boot(ctx, host, Spec{Name: "p", Profile: "p"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fake{Guest: g, machine: machines.Last(), ctx: ctx}
}

// exec runs a command with the texts that it reads and writes.
func (f *fake) exec(t *testing.T, c *Command, stdin string) (code int, stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	if c.Stdin == nil {
		c.Stdin = strings.NewReader(stdin)
	}
	if c.Stdout == nil {
		c.Stdout = &out
	}
	if c.Stderr == nil {
		c.Stderr = &errOut
	}
	if c.Dir == "" {
		c.Dir = "/work/here"
	}
	c.Note = func(format string, args ...any) { f.notes = append(f.notes, fmt.Sprintf(format, args...)) }
	code, err = f.Exec(f.ctx, c)
	return code, out.String(), errOut.String(), err
}

func TestExec(t *testing.T) {
	f := newFake(t)
	f.machine.Program("tool", func(p *fakemachine.Process) int {
		text, _ := io.ReadAll(p)
		p.Print(fmt.Sprintf("%s|%s|%s|%s", p.Args[1], p.Cwd, text, strings.Join(p.Env, " ")))
		p.Complain("odd")
		return 7
	})
	code, stdout, stderr, err := f.exec(t, &Command{Args: []string{"tool", "-x"},
		Env: []string{"A=1", "PATH=/host", "HOME=/home/u", "LC_ALL=x", "B=", "broken"}}, "in")
	if err != nil || code != 7 || stdout != "-x|/work/here|in|A=1 B=" || stderr != "odd" {
		t.Errorf("%d %q %q %v", code, stdout, stderr, err)
	}
	if f.machine.Asked("mkdir") != 1 {
		t.Error("the working directory is not made")
	}
	for name, want := range map[string]int{"true": 0, "false": 1} {
		if code, _, _, err := f.exec(t, &Command{Args: []string{name}}, ""); code != want || err != nil {
			t.Errorf("%s: %d, %v", name, code, err)
		}
	}
}

func TestExecWithoutInput(t *testing.T) {
	f := newFake(t)
	f.machine.Program("reads", func(p *fakemachine.Process) int {
		if text, err := io.ReadAll(p); err != nil || len(text) > 0 {
			return 1
		}
		return 0
	})
	c := &Command{Args: []string{"reads"}, Dir: "/", Stdout: io.Discard, Stderr: io.Discard}
	if code, err := f.Exec(f.ctx, c); code != 0 || err != nil {
		t.Error(code, err)
	}
}

func TestExecSignals(t *testing.T) {
	for name, c := range map[string]struct {
		signals []os.Signal
		code    int
	}{
		"one":      {[]os.Signal{syscall.SIGTERM}, 128 + 15},
		"quit":     {[]os.Signal{syscall.SIGQUIT}, 128 + 3},
		"stubborn": {[]os.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGINT, syscall.SIGINT}, 128 + 9},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			ready := make(chan struct{})
			f.machine.Program("waits", func(p *fakemachine.Process) int {
				close(ready)
				<-p.Context.Done()
				return 0
			})
			if name == "stubborn" { // only SIGKILL reaches it
				f.machine.OnOp("proc_signal", ignoring(f.machine, 3))
			}
			signals := make(chan os.Signal)
			go func() {
				<-ready
				for _, s := range c.signals {
					signals <- s
				}
			}()
			code, _, _, err := f.exec(t, &Command{Args: []string{"waits"}, Signals: signals}, "")
			if code != c.code || err != nil {
				t.Errorf("%d, %v; want %d", code, err, c.code)
			}
		})
	}
}

func TestExecNotStarted(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/usr/bin/nothing -x\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		arg, text string
		code      int
	}{
		"no command": {"nothing", "nothing: the guest has no such command in its PATH; a program of this machine is " +
			"named by a path, as ./nothing, and --userland host has them all in the guest", 127},
		"no file":        {"/no/thing", "/no/thing: the guest has no such command", 127},
		"script":         {script, "lacks its interpreter `/usr/bin/nothing -x`", 127},
		"directory":      {sub, sub + ": is a directory", 125},
		"not executable": {plain, "the host's file is not executable", 125},
	} {
		code, _, _, err := f.exec(t, &Command{Args: []string{c.arg}, Dir: dir}, "")
		if code != c.code || err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %d, %v", name, code, err)
		}
	}
	f.machine.OnOp("proc_start", fakemachine.Refuse(uint32(unix.EACCES)))
	if code, _, _, err := f.exec(t, &Command{Args: []string{"true"}}, ""); code != 126 || err == nil {
		t.Error(code, err)
	}
}

// brokenPipe is an output that nobody reads.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, &os.PathError{Op: "write", Err: unix.EPIPE} }

func TestExecOutputThatNobodyReads(t *testing.T) {
	f := newFake(t)
	f.machine.Program("yes", func(p *fakemachine.Process) int {
		p.Print("y\n")
		<-p.Context.Done()
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"yes"}, Stdout: brokenPipe{}}, "")
	if code != 128+13 || err != nil {
		t.Error(code, err)
	}
	for _, args := range [][]string{{"echo", "x"}, {"yes"}} {
		code, _, _, err = f.exec(t, &Command{Args: args, Stdout: fullDisk{}}, "")
		if code != ExitOurs || !errors.Is(err, unix.ENOSPC) {
			t.Error(args, code, err)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestExecGuestEnds(t *testing.T) {
	f := newFake(t)
	f.machine.Program("waits", func(p *fakemachine.Process) int {
		f.machine.Kill()
		<-p.Context.Done()
		return 0
	})
	code, _, _, err := f.exec(t, &Command{Args: []string{"waits"}}, "")
	if code != ExitOurs || err == nil {
		t.Error(code, err)
	}
}

func TestExecPushes(t *testing.T) {
	f := newFake(t)
	dir := t.TempDir()
	for path, text := range map[string]string{"x.test": "#!/bin/sh\n", "testdata/in": "data", "more/file": "f"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "x.test")
	f.machine.Program(path, func(p *fakemachine.Process) int {
		for _, name := range []string{"testdata/in", "more/file"} {
			text, failure := p.Files.Read(filepath.Join(dir, name))
			if failure != nil {
				return 1
			}
			p.Print(string(text))
		}
		return 0
	})
	code, stdout, _, err := f.exec(t, &Command{Args: []string{"./x.test"}, Dir: dir,
		Push: []string{filepath.Join(dir, "more")}}, "")
	if code != 0 || err != nil || stdout != "dataf" {
		t.Error(code, err, stdout)
	}
}

// TestExecIsInterrupted has a signal come while files are pushed, and while changes come back.
func TestExecIsInterrupted(t *testing.T) {
	for op, code := range map[string]int{"mkdir": ExitOurs, "listdir": ExitOurs} {
		t.Run(op, func(t *testing.T) {
			f := newFake(t)
			dir := t.TempDir()
			files(t, dir, map[string]string{"x": "x"})
			signals := make(chan os.Signal, 1)
			hang := func(ctx context.Context, o *localvmm.Op) (wire.Value, *wire.Error) {
				signals <- syscall.SIGTERM
				return fakemachine.Hang(ctx, o)
			}
			ran := false
			f.machine.Program("work", func(*fakemachine.Process) int {
				ran = true
				f.machine.OnOp(op, hang)
				return 0
			})
			if op == "mkdir" {
				f.machine.OnOp(op, hang)
			}
			got, _, _, err := f.exec(t, &Command{Args: []string{"work"}, Dir: dir, ReadWrite: []string{dir},
				Signals: signals}, "")
			var interrupt *Interrupt
			if got != code || !errors.As(err, &interrupt) || interrupt.Signal != syscall.SIGTERM {
				t.Error(got, err)
			}
			if ran != (op == "listdir") {
				t.Error("the command ran:", ran)
			}
		})
	}
}

func TestShell(t *testing.T) {
	f := newFake(t)
	f.machine.Program("top", func(p *fakemachine.Process) int {
		if p.AwaitSize(wire.TerminalSize{Rows: 24, Cols: 80}) != nil {
			return 1
		}
		p.Print("ready")
		if p.AwaitSize(wire.TerminalSize{Rows: 50, Cols: 100}) != nil {
			return 1
		}
		key := make([]byte, 1)
		if _, err := p.Read(key); err != nil || key[0] != 3 {
			return 1
		}
		p.Print(strings.Join(p.Env, " "))
		return 9
	})
	signals := make(chan os.Signal)
	rows, cols := uint16(24), uint16(80)
	keys, typing := io.Pipe()
	screen := &bytes.Buffer{}
	term := &Terminal{Keys: keys, Screen: writerFunc(func(p []byte) (int, error) {
		if string(p) == "ready" {
			rows, cols = 50, 100
			go func() {
				signals <- syscall.SIGWINCH
				_, _ = typing.Write([]byte{3})
			}()
		}
		return screen.Write(p)
	}), Size: func() (uint16, uint16) { return rows, cols }, Env: []string{"TERM=xterm", "HOME=/x"}, Signals: signals}
	code, err := f.Shell(f.ctx, []string{"top"}, term)
	if code != 9 || err != nil || screen.String() != "readyTERM=xterm" {
		t.Errorf("%d, %v, %q", code, err, screen)
	}
	typing.Close()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBootErrors(t *testing.T) {
	machines := fakemachine.New(t)
	host := &lab.Host{Profiles: map[string]*lab.Profile{"p": {Name: "p", Accel: "tcg"}}, TempDir: t.TempDir(),
		Starter: machines, Images: machines, NoPrewarming: true}
	_, err := Boot(context.Background(), host, Spec{Name: "x", Profile: "q"})
	if err == nil || !strings.Contains(err.Error(), "unknown profile `q`") || !strings.Contains(err.Error(), "p") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(&Interrupt{syscall.SIGTERM})
	_, err = Boot(ctx, host, Spec{Name: "p", Profile: "p"})
	var ended *Interrupt
	if !errors.As(err, &ended) || SignalCode(int(ended.Signal)) != 143 {
		t.Error(err)
	}
}

// ignoring lets that many signals pass without effect.
func ignoring(m *fakemachine.Machine, n int32) fakemachine.OpFunc {
	var left atomic.Int32
	left.Store(n)
	return func(context.Context, *localvmm.Op) (wire.Value, *wire.Error) {
		if left.Add(-1) == 0 {
			m.OnOp("proc_signal", nil)
		}
		return nil, nil
	}
}
