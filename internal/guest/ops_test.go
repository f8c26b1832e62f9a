package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"provium/internal/wire"
)

// operations has each operation of the client with a small request and answer.
var operations = []struct {
	name   string
	do     func(context.Context, *Client) (any, error)
	want   wire.Request
	answer wire.Value
	result any
}{
	{"ping", func(ctx context.Context, c *Client) (any, error) { return nil, c.Ping(ctx) }, &wire.Ping{}, nil, nil},
	{"run", func(ctx context.Context, c *Client) (any, error) {
		return c.Run(ctx, RunRequest{Path: "ls", Args: []string{"-l"}, Env: map[string]string{"B": "2", "A": "1"},
			EnvClear: true,
			Cwd:      "/tmp", Stdin: []byte("in"), User: "u", Timeout: time.Second})
	}, &wire.Run{Args: []string{"ls", "-l"}, Env: []string{"A=1", "B=2"}, EnvClear: true, Cwd: "/tmp", User: "u",
		Stdin: wire.Bulk{Inline: []byte("in")}, TimeoutNS: 1e9},
		&wire.RunValue{Code: 3, Stdout: []byte("out"), Stderr: []byte("err"), Truncated: true},
		&RunResult{ExitCode: 3, Stdout: []byte("out"), Stderr: []byte("err"), Truncated: true}},
	{"run killed", func(ctx context.Context, c *Client) (any, error) { return c.Run(ctx, RunRequest{Shell: "x"}) },
		&wire.Run{Shell: "x"}, &wire.RunValue{Status: wire.Signalled, Code: 9},
		&RunResult{Status: Signalled, ExitCode: -1,
			Signal: 9}},
	{"run late", func(ctx context.Context, c *Client) (any, error) {
		return c.Run(ctx, RunRequest{Shell: "x", Timeout: -1})
	},
		&wire.Run{Shell: "x"}, &wire.RunValue{Status: wire.TimedOut}, &RunResult{Status: TimedOut, ExitCode: -2}},
	{"read", func(ctx context.Context, c *Client) (any, error) { return c.ReadFile(ctx, "/f") },
		&wire.ReadFile{Path: "/f", Max: wire.MaxReadFile}, &wire.FileValue{Data: []byte("text")}, []byte("text")},
	{"pull", func(ctx context.Context, c *Client) (any, error) {
		var b bytes.Buffer
		perm, err := c.PullFile(ctx, "/f", &b)
		return []any{perm, b.String()}, err
	}, &wire.ReadFile{Path: "/f"}, &wire.FileValue{Data: []byte("text"), Perm: 0o600}, []any{uint32(0o600), "text"}},
	{"write", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.WriteFile(ctx, "/f", []byte("text"), Mode(0o17777))
	}, &wire.WriteFile{Path: "/f", SetPerm: true, Perm: 0o7777, Data: wire.Bulk{Inline: []byte("text")}}, nil, nil},
	{"stat", func(ctx context.Context, c *Client) (any, error) { return c.Stat(ctx, "/f", false) },
		&wire.Stat{Path: "/f", NoFollow: true}, &wire.StatValue{Size: 5, MtimeNS: 6, Perm: 0o644, Type: wire.TypeFile},
		&FileInfo{Size: 5, MtimeNS: 6, Perm: 0o644, Type: TypeFile}},
	{"listdir", func(ctx context.Context, c *Client) (any, error) { return c.ListDir(ctx, "/d") },
		&wire.ListDir{Path: "/d"}, wire.EntriesValue{{Name: "a", Type: wire.TypeDirectory}}, []DirEntry{{"a",
			TypeDirectory}}},
	{"mkdir", func(ctx context.Context, c *Client) (any, error) { return nil, c.Mkdir(ctx, "/d", true, Mode(0o700)) },
		&wire.Mkdir{Path: "/d", Parents: true, SetPerm: true, Perm: 0o700}, nil, nil},
	{"unlink", func(ctx context.Context, c *Client) (any, error) { return nil, c.Unlink(ctx, "/f") },
		&wire.Unlink{Path: "/f"}, nil, nil},
	{"rename", func(ctx context.Context, c *Client) (any, error) { return nil, c.Rename(ctx, "/a", "/b") },
		&wire.Rename{From: "/a", To: "/b"}, nil, nil},
	{"clock get", func(ctx context.Context, c *Client) (any, error) { return c.ClockGet(ctx) },
		&wire.ClockGet{}, &wire.ClockValue{RealtimeNS: 1, MonotonicNS: 2, BoottimeNS: 3}, Clock{1, 2, 3}},
	{"clock set", func(ctx context.Context, c *Client) (any, error) { return c.ClockSet(ctx, 9) },
		&wire.ClockSet{RealtimeNS: 9}, &wire.ClockValue{RealtimeNS: 9}, Clock{RealtimeNS: 9}},
	{"clock advance", func(ctx context.Context, c *Client) (any, error) { return c.ClockAdvance(ctx, -9) },
		&wire.ClockAdvance{ByNS: -9}, &wire.ClockValue{}, Clock{}},
	{"renew", func(ctx context.Context, c *Client) (any, error) {
		return nil,
			c.Renew(ctx, &Renew{Entropy: []byte("e"), RealtimeNS: 4})
	},
		&wire.Renew{Entropy: []byte("e"), RealtimeNS: 4}, nil, nil},
	{"network", func(ctx context.Context, c *Client) (any, error) { return nil, c.Network(ctx, &Network{}) },
		&wire.Network{}, nil, nil},
	{"await disk",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.AwaitDisk(ctx, "s", "nvme", true) },
		&wire.AwaitDisk{Serial: "s", Bus: "nvme", Gone: true}, nil, nil},
	{"sleep", func(ctx context.Context, c *Client) (any, error) { return nil, c.Sleep(ctx, time.Second) },
		&wire.Sleep{NS: 1e9}, nil, nil},
	{"start", func(ctx context.Context, c *Client) (any, error) {
		return c.StartProcess(ctx, RunRequest{Shell: "x"}, 5)
	},
		&wire.ProcStart{Run: wire.Run{Shell: "x"}, Worker: 5}, &wire.ProcValue{Handle: 2, PID: 30}, Process{Handle: 2,
			PID: 30}},
	{"wait", func(ctx context.Context, c *Client) (any, error) { return c.WaitProcess(ctx, 2, time.Second) },
		&wire.ProcWait{Handle: 2, TimeoutNS: 1e9}, &wire.RunValue{}, &RunResult{}},
	{"signal", func(ctx context.Context, c *Client) (any, error) { return nil, c.SignalProcess(ctx, 2, 15) },
		&wire.ProcSignal{Handle: 2, Signal: 15}, nil, nil},
	{"status", func(ctx context.Context, c *Client) (any, error) { return c.ProcessStatus(ctx, 2) },
		&wire.ProcStatus{Handle: 2}, &wire.ProcValue{Handle: 2, Ended: true, Status: wire.Signalled}, Process{Handle: 2,
			Ended: true, Status: Signalled}},
	{"stdin", func(ctx context.Context, c *Client) (any, error) { return c.WriteProcess(ctx, 2, []byte("in")) },
		&wire.ProcWrite{Handle: 2, Data: wire.Bulk{Inline: []byte("in")}}, wire.CountValue(2), 2},
	{"close stdin", func(ctx context.Context, c *Client) (any, error) { return nil, c.CloseProcessStdin(ctx, 2) },
		&wire.ProcCloseStdin{Handle: 2}, nil, nil},
	{"close", func(ctx context.Context, c *Client) (any, error) { return nil, c.CloseProcess(ctx, 2) },
		&wire.ProcClose{Handle: 2}, nil, nil},
	{"syscall", func(ctx context.Context, c *Client) (any, error) {
		return c.Syscall(ctx, &Syscall{Executor: 1, Life: 2, Nr: 3, Args: [6]int64{0, 7}, Bufs: [][]byte{[]byte("ab"),
			[]byte("c")},
			Slots: []int{0, -1}, Nested: []Nested{{Parent: 0, Child: 1, Offset: 0}}})
	}, &wire.Syscall{Executor: 1, Life: 2, Nr: 3, Args: []int64{0, 7}, Lens: []uint64{2, 1}, Ptrs: []uint64{0, 0},
		Nested: []uint64{0, 1, 0}, Data: wire.Bulk{Inline: []byte("abc")}},
		&wire.SyscallValue{Ret: -1, Errno: 2, Life: 4, Data: []byte("xyz")},
		&SyscallResult{Ret: -1, Errno: 2, Life: 4, Bufs: [][]byte{[]byte("xy"), []byte("z")}}},
	{"syscall async", func(ctx context.Context, c *Client) (any, error) { return c.SyscallAsync(ctx, &Syscall{Nr: 3}) },
		&wire.Syscall{Nr: 3, Async: true}, wire.CountValue(8), uint64(8)},
	{"syscall await", func(ctx context.Context, c *Client) (any, error) {
		return c.AwaitSyscall(ctx, 8, []int{1}, time.Second)
	},
		&wire.SyscallAwait{Handle: 8, TimeoutNS: 1e9}, &wire.SyscallValue{Ret: 1, Data: []byte("x")},
		&SyscallResult{Ret: 1,
			Bufs: [][]byte{[]byte("x")}}},
	{"syscall drop", func(ctx context.Context, c *Client) (any, error) { return nil, c.DropSyscall(ctx, 8) },
		&wire.SyscallDrop{Handle: 8}, nil, nil},
	{"read mem", func(ctx context.Context, c *Client) (any, error) {
		p, errno, err := c.ReadMem(ctx, 1, 0x1000, 3)
		return []any{string(p), errno}, err
	}, &wire.ReadMem{Executor: 1, Address: 0x1000, Length: 3}, &wire.SyscallValue{Data: []byte("mem")},
		[]any{"mem", 0}},
	{"read mem fault", func(ctx context.Context, c *Client) (any, error) {
		p, errno, err := c.ReadMem(ctx, 1, 0, 0)
		return []any{string(p), errno}, err
	}, &wire.ReadMem{Executor: 1}, &wire.SyscallValue{Ret: -1, Errno: 14}, []any{"", 14}},
	{"worker", func(ctx context.Context, c *Client) (any, error) { return c.SpawnWorker(ctx) }, &wire.WorkerSpawn{},
		wire.CountValue(6), uint64(6)},
	{"worker close", func(ctx context.Context, c *Client) (any, error) { return nil, c.CloseWorker(ctx, 6) },
		&wire.WorkerClose{Handle: 6}, nil, nil},
}

func TestOperations(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	var seen wire.Request
	var answer wire.Result
	serve(t, a, func(r wire.Request) wire.Result {
		seen = r
		return answer
	})
	for _, op := range operations {
		answer = wire.Result{Value: op.answer}
		got, err := op.do(ctx, c)
		if err != nil {
			t.Errorf("%s: %v", op.name, err)
		}
		if !reflect.DeepEqual(seen, op.want) {
			t.Errorf("%s: request %+v, want %+v", op.name, seen, op.want)
		}
		if op.result != nil && !reflect.DeepEqual(got, op.result) {
			t.Errorf("%s: %+v, want %+v", op.name, got, op.result)
		}

		answer = wire.Result{Err: wire.ErrnoError(2)}
		var failed *OpError
		if _, err := op.do(ctx, c); !errors.As(err, &failed) || failed.Name != "ENOENT" || failed.Op != op.want.Op() {
			t.Errorf("%s: a failure of the guest is %v", op.name, err)
		}

		// An agent that answers with a value of another kind.
		if op.answer != nil {
			answer = wire.Result{Value: wire.BatchValue{}}
			if _, err := op.do(ctx, c); err == nil || !strings.Contains(err.Error(), "answered with a value of type") {
				t.Errorf("%s: a wrong value is %v", op.name, err)
			}
		}
	}
}

func TestErrorsNameWhatTheyConcern(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	serve(t, a, func(wire.Request) wire.Result { return wire.Result{Err: &wire.Error{Text: "no"}} })
	for want, do := range map[string]func() error{
		"run sh: no":          func() error { _, err := c.Run(ctx, RunRequest{Path: "sh"}); return err },
		"proc_start sh: no":   func() error { _, err := c.StartProcess(ctx, RunRequest{Path: "sh"}, 0); return err },
		"tail_file /f: no":    func() error { _, err := c.TailFile(ctx, "/f", 0, false, 0); return err },
		"rename /a -> /b: no": func() error { return c.Rename(ctx, "/a", "/b") },
		"unlink /f: no":       func() error { return c.Unlink(ctx, "/f") },
		"mkdir /f: no":        func() error { return c.Mkdir(ctx, "/f", false, Perm{}) },
		"ping: no":            func() error { return c.Ping(ctx) },
		"listdir /f: no":      func() error { _, err := c.ListDir(ctx, "/f"); return err },
		"write_file /f: no":   func() error { return c.WriteFile(ctx, "/f", nil, Perm{}) },
		"read_file /f: no":    func() error { _, err := c.ReadFile(ctx, "/f"); return err },
		"stat /f: no":         func() error { _, err := c.Stat(ctx, "/f", true); return err },
		"proc_write: no":      func() error { _, err := c.WriteProcess(ctx, 1, nil); return err },
		"syscall: no":         func() error { _, err := c.Syscall(ctx, &Syscall{}); return err },
		"proc_output: no":     func() error { _, err := c.ProcessOutput(ctx, 1, true); return err },
		"fd_tail: no":         func() error { _, err := c.FDTail(ctx, 1, 3); return err },
		"op /p: Not tty (ENOTTY)": func() error {
			e := ErrnoError("op", "/p",
				25)
			e.Text = "Not tty (" + e.Name + ")"
			return e
		},
	} {
		if err := do(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestLargeDataGoesInFrames(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	text := bytes.Repeat([]byte("0123456789abcdef"), 200<<10) // more than a window
	answered := background(t, func() error {
		op, r, err := a.request()
		if err != nil {
			return err
		}
		if n := r.(*wire.Run).Stdin.Length; n != int64(len(text)) {
			t.Errorf("%d bytes announced", n)
		}
		in, err := a.received()
		if err != nil {
			return err
		}
		if !bytes.Equal(in, text) {
			t.Errorf("%d bytes of stdin differ", len(in))
		}
		if err := a.write(wire.AppendExpect(nil, op, wire.StreamStdout, 5)); err != nil {
			return err
		}
		for _, p := range []struct {
			stream uint16
			text   string
		}{{wire.StreamStdout, "out"}, {wire.StreamStderr, "e1"}, {wire.StreamStdout, "pu"}} {
			if err := a.data(op, p.stream, []byte(p.text)); err != nil {
				return err
			}
		}
		return a.result(op, wire.Result{Value: &wire.RunValue{Stdout: []byte("t"), Stderr: []byte("e2")}})
	})
	r, err := c.Run(ctx, RunRequest{Shell: "cat", Stdin: text})
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Stdout) != "output" || string(r.Stderr) != "e1e2" {
		t.Errorf("%q, %q", r.Stdout, r.Stderr)
	}
	answered()
}

func TestPushStopsWithItsReader(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	broken := errors.New("broken disk")
	background(t, func() error {
		op, r, err := a.request()
		if err != nil {
			return err
		}
		if n := r.(*wire.WriteFile).Data.Length; n != wire.UntilEnd {
			t.Errorf("length %d", n)
		}
		if _, err := a.cancelled(); err != nil {
			return err
		}
		return a.result(op, wire.Result{Err: wire.ErrnoError(125)})
	})
	if err := c.PushFile(ctx, "/f", io.MultiReader(failingReader{broken}), Perm{}); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestPullAllowsMoreAsItIsWritten(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	const pieces = 40
	piece := bytes.Repeat([]byte{7}, wire.MaxPayload) // 40 of them are five windows
	background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		allowed := int64(wire.Window)
		for range pieces {
			for allowed < int64(len(piece)) {
				_, p, err := a.want(wire.FrameCredit)
				if err != nil {
					return err
				}
				n, err := wire.ParseCredit(p)
				if err != nil {
					return err
				}
				allowed += int64(n)
			}
			if err := a.data(op, wire.StreamData, piece); err != nil {
				return err
			}
			allowed -= int64(len(piece))
		}
		return a.result(op, wire.Result{Value: &wire.FileValue{Perm: 0o600}})
	})
	var got bytes.Buffer
	if _, err := c.PullFile(ctx, "/f", &got); err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat(piece, pieces); !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes of %d", got.Len(), len(want))
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestPullStopsWithItsWriter(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	full := errors.New("disk full")
	background(t, func() error {
		op, _, err := a.request()
		if err != nil {
			return err
		}
		if err := a.data(op, wire.StreamData, []byte("x")); err != nil {
			return err
		}
		if _, err := a.cancelled(); err != nil {
			return err
		}
		if err := a.result(op, wire.Result{}); err != nil {
			return err
		}
		// The end of the contents, inside the result.
		if op, _, err = a.request(); err != nil {
			return err
		}
		return a.result(op, wire.Result{Value: &wire.FileValue{Data: []byte("x")}})
	})
	for range 2 {
		if _, err := c.PullFile(ctx, "/f", failingWriter{full}); !errors.Is(err, full) {
			t.Errorf("%v", err)
		}
	}
}

func TestRequestInSeveralFrames(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	long := strings.Repeat("x", wire.MaxPayload)
	serve(t, a, func(r wire.Request) wire.Result {
		if r.(*wire.Run).Shell != long {
			return wire.Result{Err: &wire.Error{Text: "cut"}}
		}
		return wire.Result{Value: &wire.RunValue{Stdout: []byte(long), Stderr: []byte(long)}} // in several frames, too
	})
	r, err := c.Run(ctx, RunRequest{Shell: long})
	if err != nil || string(r.Stdout) != long {
		t.Fatal(err)
	}
	_, err = c.Run(ctx, RunRequest{Shell: strings.Repeat("x", wire.MaxRequest)})
	if err == nil || !strings.Contains(err.Error(), "at most 4194304 are possible") {
		t.Errorf("%v", err)
	}
}

func TestBatch(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	large := bytes.Repeat([]byte("L"), 2*batchInline)
	background(t, func() error {
		op, r, err := a.request()
		if err != nil {
			return err
		}
		ops := r.(*wire.Batch).Ops
		if n := ops[0].(*wire.Run).Stdin.Length; n != int64(len(large)) {
			t.Errorf("stdin of %d bytes", n)
		}
		if string(ops[1].(*wire.WriteFile).Data.Inline) != "small" {
			t.Errorf("%+v", ops[1])
		}
		in, err := a.received()
		if err != nil {
			return err
		}
		if !bytes.Equal(in, large) {
			t.Errorf("%d bytes came", len(in))
		}
		if err := a.data(op, wire.StreamStdout, []byte("oneFAIL")); err != nil {
			return err
		}
		if err := a.data(op, wire.StreamData, []byte("contents")); err != nil {
			return err
		}
		return a.result(op, wire.Result{Value: wire.BatchValue{
			{Value: &wire.RunValue{}, Streamed: [wire.Streams]uint64{wire.StreamStdout: 3}},
			{Err: wire.ErrnoError(28), Streamed: [wire.Streams]uint64{wire.StreamStdout: 4}},
			{Value: &wire.FileValue{}, Streamed: [wire.Streams]uint64{wire.StreamData: 8}},
			{Value: &wire.StatValue{Size: 4}},
			{Value: wire.EntriesValue{{Name: "e"}}},
			{Value: &wire.SyscallValue{Ret: 7}},
			{}, {}, {},
		}})
	})
	results, err := c.Batch(ctx, []Op{RunOp{RunRequest{Shell: "cat", Stdin: large}}, WriteFileOp{Path: "/f",
		Data: []byte("small")},
		ReadFileOp{"/f"}, StatOp{Path: "/f"}, ListDirOp{"/"}, SyscallOp{Syscall{Nr: 1}},
		MkdirOp{Path: "/d"}, UnlinkOp{"/f"}, RenameOp{"/a", "/b"}})
	if err != nil {
		t.Fatal(err)
	}
	var failed *OpError
	switch {
	case string(results[0].Run.Stdout) != "one":
		t.Errorf("%q", results[0].Run.Stdout)
	case !errors.As(results[1].Err, &failed) || failed.Name != "ENOSPC" || failed.Path != "/f":
		t.Errorf("%v", results[1].Err)
	case string(results[2].Data) != "contents":
		t.Errorf("%q", results[2].Data)
	case results[3].Stat.Size != 4 || results[4].Entries[0].Name != "e" || results[5].Syscall.Ret != 7:
		t.Errorf("%+v", results)
	case results[6].Err != nil || results[8].Err != nil:
		t.Errorf("%+v", results[6:])
	}
}

func TestBatchesThatCannotBe(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	if r, err := c.Batch(ctx, nil); r != nil || err != nil {
		t.Errorf("an empty batch: %v, %v", r, err)
	}
	if _, err := c.Batch(ctx, make([]Op, wire.MaxBatch+1)); err == nil {
		t.Error("a batch above the limit was accepted")
	}
	for _, answer := range []wire.Value{
		nil,
		wire.BatchValue{},
		wire.BatchValue{{Value: &wire.RunValue{}}},
		wire.BatchValue{{Value: &wire.FileValue{}, Streamed: [wire.Streams]uint64{wire.StreamData: 1}}},
	} {
		done := background(t, func() error {
			op, _, err := a.request()
			if err != nil {
				return err
			}
			return a.result(op, wire.Result{Value: answer})
		})
		if r, err := c.Batch(ctx, []Op{ReadFileOp{"/f"}}); err == nil {
			t.Errorf("%+v was accepted for %+v", answer, r)
		}
		done()
	}
}

func TestSyscallsWithLargeBuffers(t *testing.T) {
	c, a := connect(t, Config{})
	ctx := testContext(t)
	buf := bytes.Repeat([]byte("b"), wire.CallInline+1)
	background(t, func() error {
		op, r, err := a.request()
		if err != nil {
			return err
		}
		if n := r.(*wire.Syscall).Data.Length; n != int64(len(buf)) {
			t.Errorf("%d bytes announced", n)
		}
		in, err := a.received()
		if err != nil {
			return err
		}
		if err := a.data(op, wire.StreamData, in[:len(in)-1]); err != nil {
			return err
		}
		return a.result(op, wire.Result{Value: &wire.SyscallValue{Data: in[len(in)-1:]}})
	})
	r, err := c.Syscall(ctx, &Syscall{Bufs: [][]byte{buf}})
	if err != nil || !bytes.Equal(r.Bufs[0], buf) {
		t.Fatalf("%v", err)
	}
}

func TestSyscallAnswerWithTooFewBytes(t *testing.T) {
	c, a := connect(t, Config{})
	serve(t, a, func(wire.Request) wire.Result { return wire.Result{Value: &wire.SyscallValue{Data: []byte("x")}} })
	if _, err := c.Syscall(testContext(t), &Syscall{Bufs: [][]byte{[]byte("xy")}}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("%v", err)
	}
}
