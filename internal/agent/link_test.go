package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/agent"
	"provium/internal/guest"
)

// connect joins a Client and an Agent by a socket pair, both on this machine.
func connect(t testing.TB, cfg guest.Config) *guest.Client {
	t.Helper()
	host, far := socketPair(t)
	a := agent.New(agent.Config{Version: "test", GuestOS: "linux test", Features: []string{"x"}})
	served := make(chan error, 1)
	go func() { served <- a.Serve(far) }()
	c, err := guest.Connect(t.Context(), host, cfg)
	if err != nil {
		t.Fatal(err)
	}
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

func socketPair(t testing.TB) (host, far net.Conn) {
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

func TestRun(t *testing.T) {
	c := connect(t, guest.Config{})
	blob := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	for name, tc := range map[string]struct {
		req  guest.RunRequest
		want guest.RunResult
	}{
		"shell":        {guest.RunRequest{Shell: "echo hi; echo oh >&2"}, guest.RunResult{Stdout: []byte("hi\n"), Stderr: []byte("oh\n")}},
		"exit code":    {guest.RunRequest{Shell: "exit 7"}, guest.RunResult{ExitCode: 7}},
		"shell miss":   {guest.RunRequest{Shell: "no-such-program 2>/dev/null"}, guest.RunResult{ExitCode: 127}},
		"signal":       {guest.RunRequest{Shell: "kill -SEGV $$"}, guest.RunResult{Status: guest.Signalled, ExitCode: -1, Signal: 11}},
		"direct":       {guest.RunRequest{Path: "echo", Args: []string{"a  b", "$HOME"}}, guest.RunResult{Stdout: []byte("a  b $HOME\n")}},
		"defaults":     {guest.RunRequest{Shell: "echo $PATH $HOME $TERM $LANG; umask; pwd"}, guest.RunResult{Stdout: []byte("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root linux C.UTF-8\n0022\n/\n")}},
		"env":          {guest.RunRequest{Shell: "echo $HOME $K", Env: map[string]string{"K": "v", "HOME": "/x"}}, guest.RunResult{Stdout: []byte("/x v\n")}},
		"env clear":    {guest.RunRequest{Path: "/usr/bin/env", EnvClear: true, Env: map[string]string{"K": "v"}}, guest.RunResult{Stdout: []byte("K=v\n")}},
		"cwd":          {guest.RunRequest{Shell: "pwd", Cwd: "/usr"}, guest.RunResult{Stdout: []byte("/usr\n")}},
		"stdin":        {guest.RunRequest{Path: "cat", Stdin: []byte("in\x00\xff")}, guest.RunResult{Stdout: []byte("in\x00\xff")}},
		"no stdin":     {guest.RunRequest{Path: "cat"}, guest.RunResult{}},
		"big stdin":    {guest.RunRequest{Path: "cat", Stdin: []byte(blob)}, guest.RunResult{Stdout: []byte(blob)}},
		"unread stdin": {guest.RunRequest{Path: "true", Stdin: []byte(blob)}, guest.RunResult{}},
		"two outputs":  {guest.RunRequest{Shell: "tee /dev/stderr", Stdin: []byte(blob)}, guest.RunResult{Stdout: []byte(blob), Stderr: []byte(blob)}},
		"timeout":      {guest.RunRequest{Shell: "echo soon; sleep 1000 & sleep 1000", Timeout: 2 * time.Second}, guest.RunResult{Status: guest.TimedOut, ExitCode: -2, Stdout: []byte("soon\n")}},
		"own group":    {guest.RunRequest{Shell: `cut -d" " -f5,6 /proc/$$/stat | { read g s; [ $g = $$ ] && [ $s = $$ ] && echo own; }`}, guest.RunResult{Stdout: []byte("own\n")}},
		"user":         {guest.RunRequest{Shell: "id -u; id -g; echo $HOME", User: "daemon"}, guest.RunResult{Stdout: []byte("1\n1\n/usr/sbin\n")}},
		"user number":  {guest.RunRequest{Shell: "id -u; id -g", User: "4321"}, guest.RunResult{Stdout: []byte("4321\n4321\n")}},
		"background":   {guest.RunRequest{Shell: "echo a; sleep 5 & echo b"}, guest.RunResult{Stdout: []byte("a\nb\n")}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.req.User != "" && os.Getuid() != 0 {
				t.Skip("needs root")
			}
			t.Parallel()
			got, err := c.Run(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprintf("%+v", brief(got)), fmt.Sprintf("%+v", brief(&tc.want)); g != w ||
				!bytes.Equal(got.Stdout, tc.want.Stdout) || !bytes.Equal(got.Stderr, tc.want.Stderr) {
				t.Errorf("got %s, want %s", g, w)
			}
		})
	}
}

func brief(r *guest.RunResult) string {
	cut := func(b []byte) string { return fmt.Sprintf("%d %.60q", len(b), b) }
	return fmt.Sprint(r.Status, r.ExitCode, r.Signal, r.Truncated, cut(r.Stdout), cut(r.Stderr))
}

func TestRunErrors(t *testing.T) {
	c := connect(t, guest.Config{})
	for name, tc := range map[string]struct {
		req  guest.RunRequest
		want string
	}{
		"missing":   {guest.RunRequest{Path: "no-such"}, "run no-such: No such file or directory (ENOENT)"},
		"no exec":   {guest.RunRequest{Path: "/etc/passwd"}, "run /etc/passwd: Permission denied (EACCES)"},
		"cwd":       {guest.RunRequest{Path: "true", Cwd: "/nowhere"}, "run true: cwd /nowhere: No such file or directory (ENOENT)"},
		"user":      {guest.RunRequest{Path: "true", User: "nobody-here"}, `run true: user "nobody-here" is not in the guest's /etc/passwd`},
		"directory": {guest.RunRequest{Path: "/usr"}, "run /usr: Permission denied (EACCES)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Run(t.Context(), tc.req)
			var op *guest.OpError
			if !errors.As(err, &op) || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestRunOutputIsCut(t *testing.T) {
	c := connect(t, guest.Config{})
	r, err := c.Run(t.Context(), guest.RunRequest{Shell: "head -c 70000000 /dev/zero; echo end >&2"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Stdout) != 64<<20 || !r.Truncated || string(r.Stderr) != "end\n" || r.ExitCode != 0 {
		t.Error(brief(r))
	}
}

func TestCancelKillsTheGroup(t *testing.T) {
	c := connect(t, guest.Config{})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, guest.RunRequest{Shell: "(echo up; exec sleep 1000) > " + fifo + " & wait"})
		ended <- err
	}()
	f, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 3)
	if _, err := io.ReadFull(f, line); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// The background child has the other end of the fifo: its death is EOF.
	if rest, err := io.ReadAll(f); err != nil || len(rest) > 0 {
		t.Error(rest, err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	c := connect(t, guest.Config{})
	ctx, dir := t.Context(), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	big := make([]byte, 5<<20+13)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(big)

	for _, n := range []int{0, 1, 1000, 32 << 10, 32<<10 + 1, 128<<10 - 16, 128 << 10, len(big)} {
		if err := c.WriteFile(ctx, at("f"), big[:n], guest.Perm{}); err != nil {
			t.Fatal(n, err)
		}
		got, err := c.ReadFile(ctx, at("f"))
		if err != nil || !bytes.Equal(got, big[:n]) {
			t.Fatal(n, len(got), err)
		}
	}
	if st, err := c.Stat(ctx, at("f"), true); err != nil || st.Size != int64(len(big)) || st.Perm != 0o644 || st.Type.String() != "file" || st.MtimeNS == 0 {
		t.Error(st, err)
	}
	if err := c.PushFile(ctx, at("g"), bytes.NewReader(big), guest.Mode(0o4755)); err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if perm, err := c.PullFile(ctx, at("g"), &back); err != nil || perm != 0o4755 || !bytes.Equal(back.Bytes(), big) {
		t.Error(perm, err, back.Len())
	}
	if err := c.WriteFile(ctx, at("g"), []byte("x"), guest.Perm{}); err != nil {
		t.Error(err)
	}
	if st, err := c.Stat(ctx, at("g"), true); err != nil || st.Perm&0o777 != 0o755 {
		t.Error("mode not kept", st, err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), true, guest.Mode(0o1777)); err != nil {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), true, guest.Perm{}); err != nil {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("a/b/c"), false, guest.Perm{}); !hasErrno(err, "EEXIST") {
		t.Error(err)
	}
	if err := c.Mkdir(ctx, at("f/b/c"), true, guest.Perm{}); !hasErrno(err, "ENOTDIR") {
		t.Error(err)
	}
	if st, err := c.Stat(ctx, at("a/b/c"), true); err != nil || st.Perm != 0o1777 || st.Type.String() != "directory" {
		t.Error(st, err)
	}
	if err := os.Symlink("f", at("link")); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Stat(ctx, at("link"), false); err != nil || st.Type.String() != "symlink" {
		t.Error(st, err)
	}
	if err := c.Rename(ctx, at("f"), at("h")); err != nil {
		t.Error(err)
	}
	entries, err := c.ListDir(ctx, dir)
	if got := fmt.Sprint(entries); err != nil || got != "[{a directory} {g file} {h file} {link symlink}]" {
		t.Error(got, err)
	}
	for _, name := range []string{"a/b/c", "h", "link"} {
		if err := c.Unlink(ctx, at(name)); err != nil {
			t.Error(err)
		}
	}
	if err := c.Unlink(ctx, at("a")); !hasErrno(err, "ENOTEMPTY") {
		t.Error(err)
	}
	_, err = c.ReadFile(ctx, at("missing"))
	if err == nil || !strings.HasSuffix(err.Error(), "missing: No such file or directory (ENOENT)") {
		t.Error(err)
	}
	if p, err := c.ReadFile(ctx, "/proc/self/status"); err != nil || !bytes.Contains(p, []byte("VmRSS")) {
		t.Error(err)
	}
	huge, err := os.Create(at("huge"))
	if err == nil {
		err = errors.Join(huge.Truncate(96<<20+1), huge.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ReadFile(ctx, at("huge"))
	if !hasErrno(err, "EFBIG") || !strings.Contains(err.Error(), "tail_file") || !strings.Contains(err.Error(), "open_file") {
		t.Error(err)
	}
	if _, err = c.ReadFile(ctx, "/dev/zero"); !hasErrno(err, "EFBIG") {
		t.Error(err)
	}
}

func hasErrno(err error, name string) bool {
	var op *guest.OpError
	return errors.As(err, &op) && op.Name == name && op.Errno != 0
}

func TestWriteToFullDevice(t *testing.T) {
	c := connect(t, guest.Config{})
	if err := c.WriteFile(t.Context(), "/dev/full", make([]byte, 4<<20), guest.Perm{}); !hasErrno(err, "ENOSPC") {
		t.Error(err)
	}
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBatch(t *testing.T) {
	c := connect(t, guest.Config{})
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
	c := connect(t, guest.Config{})
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
	c := connect(t, guest.Config{})
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
				if r, err := c.Run(t.Context(), guest.RunRequest{Path: "cat", Stdin: blob[:100_000]}); err != nil || !bytes.Equal(r.Stdout, blob[:100_000]) {
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
	host, far := socketPair(t)
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
