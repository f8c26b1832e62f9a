package handle

import (
	"bytes"
	"context"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/guest"
	"provium/internal/stream"
	"provium/internal/wire"
)

func TestEpoch(t *testing.T) {
	a := &Epoch{}
	a.created(5)
	a.created(3)
	restored := a.Mark().Restore()
	a.created(9)
	restored.created(7)
	again := restored.Mark().Restore()
	other := (&Epoch{}).Mark().Restore()
	unknown := Mark{}.Restore()
	for _, c := range []struct {
		now, of *Epoch
		handle  uint64
		want    bool
	}{
		{a, a, 9, true},
		{restored, a, 5, true},
		{restored, a, 6, false}, // created after the snapshot
		{restored, restored, 6, true},
		{again, a, 5, true},
		{again, restored, 7, true},
		{again, restored, 8, false},
		{again, a, 6, false},
		{other, a, 1, false},
		{unknown, a, 1, false},
		{a, restored, 1, false},
	} {
		if got := c.now.has(c.of, c.handle); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestLivesOfExecutors(t *testing.T) {
	e := &Epoch{}
	if !e.mayHaveLife(3, 8) {
		t.Error("an executor that nothing is known of")
	}
	e.recordLife(&guest.Syscall{Executor: 3}, &guest.SyscallResult{Life: 8}, nil)
	if !e.mayHaveLife(3, 8) || e.mayHaveLife(3, 7) {
		t.Error("the life of an answer")
	}
	died := &guest.OpError{Text: "the executor has died"}
	e.recordLife(&guest.Syscall{Executor: 3, Life: 7}, nil, died) // of a life before
	e.recordLife(&guest.Syscall{Executor: 3}, nil, guest.ErrnoError("syscall", "", 2))
	if !e.mayHaveLife(3, 8) {
		t.Error("an error that does not concern this life")
	}
	e.recordLife(&guest.Syscall{Executor: 3, Life: 8}, nil, died)
	if e.mayHaveLife(3, 8) {
		t.Error("the life has ended")
	}
}

func start(t *testing.T, a *Actor, command string) *Process {
	t.Helper()
	p, err := a.RunAsync(t.Context(), guest.RunRequest{Shell: command})
	must(t, err)
	return p
}

func TestProcess(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	p := start(t, agent, "cat")
	if p.String() != "process(proc#1)" || p.Handle() != 1 || p.VM() != VM(vm) {
		t.Errorf("%s", p)
	}
	if status, pid, err := p.Status(ctx, "proc:status"); status != "running" || pid != 1001 || err != nil {
		t.Errorf("%s, %d, %v", status, pid, err)
	}
	if n, err := p.WriteStdin(ctx, []byte("in")); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	must(t, p.CloseStdin(ctx))
	_, err := p.WriteStdin(ctx, []byte("more"))
	wantError(t, err, "proc:stdin_write: ", "EPIPE")
	for stderr, want := range map[bool]string{false: "stdout", true: "stderr"} {
		s, err := p.Output(ctx, stderr, site)
		must(t, err)
		if got := next(t, s); got != want {
			t.Errorf("%q", got)
		}
		wantError(t, errors.New(s.String()), "proc_"+want+"_stream(1) at a.test.lua:3 (test `t`)")
		s.Close()
	}
	must(t, p.Signal(ctx, "proc:kill", 15))
	if status, _, err := p.Status(ctx, "proc:status"); status != "signalled" || err != nil {
		t.Errorf("%s, %v", status, err)
	}
	r, err := p.Wait(ctx, 0)
	if err != nil || r.Signal != 15 || string(r.Stdout) != "in" {
		t.Errorf("%+v, %v", r, err)
	}

	// After the wait nothing is asked of the guest.
	vm.die()
	_, err = p.Wait(ctx, 0)
	wantError(t, err, "already waited")
	wantError(t, p.Signal(ctx, "proc:kill", 9), "the process has exited")
	_, err = p.WriteStdin(ctx, nil)
	wantError(t, err, "the process has exited")
	must(t, p.CloseStdin(ctx))
	if status, pid, err := p.Status(ctx, "proc:status"); status != "signalled" || pid != 1001 || err != nil {
		t.Errorf("%s, %d, %v", status, pid, err)
	}
	must(t, p.Close(ctx))
}

func TestProcessThatExits(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	p := start(t, agent, "exit 3")
	if status, _, err := p.Status(ctx, "proc:status"); status != "exited" || err != nil {
		t.Errorf("%s, %v", status, err)
	}
	wantError(t, p.Signal(ctx, "proc:signal", 1), "proc:signal: ", "ESRCH")
	// A wait that fails can be repeated.
	vm.guest.onOp("proc_wait", &wire.Error{Text: "busy"})
	_, err := p.Wait(ctx, 0)
	wantError(t, err, "proc:wait: busy")
	vm.guest.onOp("proc_wait", nil)
	if r, err := p.Wait(ctx, time.Hour); err != nil || r.ExitCode != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if status, _, _ := p.Status(ctx, "proc:status"); status != "exited" {
		t.Error(status)
	}
}

func TestOneWaitAtATime(t *testing.T) {
	vm, agent := newVM(t)
	p := start(t, agent, "sleep")
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if r, err := p.Wait(t.Context(), 0); err != nil || r.Status != guest.Signalled {
			t.Errorf("%+v, %v", r, err)
		}
	})
	for asked := false; !asked; { // until the first wait is under way
		for _, r := range vm.guest.sawRequests() {
			_, wait := r.(*wire.ProcWait)
			asked = asked || wait
		}
	}
	_, err := p.Wait(t.Context(), 0)
	wantError(t, err, "already waited")
	must(t, p.Signal(t.Context(), "proc:kill", 9))
	waiting.Wait()
}

func TestClosedProcess(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	p := start(t, agent, "sleep")
	if ops := vm.opsOf(func() { must(t, p.Close(ctx)); must(t, p.Close(ctx)) }); ops != "proc:close" {
		t.Errorf("operations: %s", ops)
	}
	_, err := p.Wait(ctx, 0)
	wantError(t, err, "process is closed")
	_, _, err = p.Status(ctx, "proc:status")
	wantError(t, err, "process is closed")
	_, err = p.Output(ctx, false, site)
	wantError(t, err, "process is closed")
	wantError(t, p.CloseStdin(ctx), "process is closed")
}

func TestStartThatFails(t *testing.T) {
	vm, agent := newVM(t)
	vm.guest.onOp("proc_start", wire.ErrnoError(2))
	_, err := agent.RunAsync(t.Context(), guest.RunRequest{Path: "none"})
	wantError(t, err, "run_async none: ", "ENOENT")
	vm.guest.onOp("worker_spawn", wire.ErrnoError(11))
	_, err = SpawnWorker(t.Context(), vm)
	wantError(t, err, "spawn_worker: ", "EAGAIN")
	vm.guest.onOp("syscall", wire.ErrnoError(11))
	_, err = agent.SyscallAsync(t.Context(), guest.Syscall{})
	wantError(t, err, "syscall_async: ", "EAGAIN")
	vm.guest.onOp("fd_tail", wire.ErrnoError(9))
	_, err = agent.FDStream(t.Context(), 99, site)
	wantError(t, err, "fd_stream: unknown fd `99`: ", "EBADF")
	if n := len(vm.opened.Streams(vm.epoch)); n != 0 {
		t.Errorf("%d open streams", n)
	}
}

func TestRun(t *testing.T) {
	vm, agent := newVM(t)
	r, err := agent.Run(t.Context(), guest.RunRequest{Shell: "x"})
	if err != nil || string(r.Stdout) != "agent: x" {
		t.Errorf("%+v, %v", r, err)
	}
	if agent.VM() != VM(vm) {
		t.Error("another VM")
	}
}

func TestWorkerRuns(t *testing.T) {
	vm, _ := newVM(t)
	ctx := t.Context()
	w, err := SpawnWorker(ctx, vm)
	must(t, err)
	if w.String() != "worker(1)" || w.Handle() != 1 || w.VM() != VM(vm) {
		t.Errorf("%s", w)
	}
	ops := vm.opsOf(func() {
		if r, err := w.Run(ctx, guest.RunRequest{Shell: "exit 4", Timeout: time.Hour}); err != nil || r.ExitCode != 4 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	if ops != "run proc:wait proc:close" {
		t.Errorf("operations: %s", ops)
	}
	p := start(t, w.AsActor(), "sleep")
	if of := vm.guest.process(p.Handle()).worker; of != 1 {
		t.Errorf("started by %d", of)
	}
	if n := len(w.running); n != 0 {
		t.Errorf("%d commands are still under way", n)
	}
	vm.guest.onOp("proc_close_stdin", wire.ErrnoError(5))
	_, err = w.Run(ctx, guest.RunRequest{Shell: "exit 0", Stdin: []byte("in")})
	wantError(t, err, "proc:close_stdin: ", "EIO")
	vm.guest.onOp("proc_start", wire.ErrnoError(2))
	_, err = w.Run(ctx, guest.RunRequest{Shell: "exit 0"})
	wantError(t, err, "run: ", "ENOENT")
}

func TestWorkerKillAndJoin(t *testing.T) {
	vm, _ := newVM(t)
	ctx := t.Context()
	w, err := SpawnWorker(ctx, vm)
	must(t, err)
	for _, command := range []string{"exit 2", "sleep", "exit 5"} {
		start(t, w.AsActor(), command)
	}
	closed, waited := start(t, w.AsActor(), "sleep"), start(t, w.AsActor(), "exit 9")
	must(t, closed.Close(ctx))
	_, err = waited.Wait(ctx, 0)
	must(t, err)
	must(t, w.Kill(ctx, 15)) // those that have ended are passed over
	if code, err := w.Join(ctx); code != 5 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
	_, err = w.Join(ctx)
	wantError(t, err, "worker was joined or closed already")
	must(t, w.Close(ctx))

	w, err = SpawnWorker(ctx, vm)
	must(t, err)
	start(t, w.AsActor(), "sleep")
	vm.die()
	wantError(t, w.Kill(ctx, 15), errPanicked.Error())
	_, err = w.Join(ctx)
	wantError(t, err, errPanicked.Error())
}

// TestWorkerOfALinkThatBreaks has the guest end between the check and the operation.
func TestWorkerOfALinkThatBreaks(t *testing.T) {
	for _, do := range []func(w *Worker) error{
		func(w *Worker) error { return w.Kill(context.Background(), 15) },
		func(w *Worker) error { _, err := w.Join(context.Background()); return err },
		func(w *Worker) error { return w.Close(context.Background()) },
	} {
		vm, _ := newVM(t)
		w, err := SpawnWorker(t.Context(), vm)
		must(t, err)
		start(t, w.AsActor(), "sleep")
		vm.client.Fail(errPanicked)
		wantError(t, do(w), errPanicked.Error())
	}
}

func TestWorkerClose(t *testing.T) {
	vm, _ := newVM(t)
	ctx := t.Context()
	w, err := SpawnWorker(ctx, vm)
	must(t, err)
	start(t, w.AsActor(), "sleep")
	start(t, w.AsActor(), "sleep")
	must(t, w.Close(ctx))
	closes := 0
	for _, r := range vm.guest.sawRequests() {
		switch r.(type) {
		case *wire.ProcClose:
			closes++
		case *wire.WorkerClose:
			if closes != 2 {
				t.Errorf("%d processes were closed before the worker", closes)
			}
		}
	}
	if ops := vm.opsOf(func() { must(t, w.Close(ctx)) }); ops != "" {
		t.Errorf("operations of a second close: %s", ops)
	}
	_, err = w.Run(ctx, guest.RunRequest{Shell: "x"})
	wantError(t, err, "worker is closed")
	_, err = w.RunAsync(ctx, guest.RunRequest{Shell: "x"})
	wantError(t, err, "worker is closed")
	_, err = w.Join(ctx)
	wantError(t, err, "joined or closed")

	// A worker whose guest is gone needs no operation.
	w, err = SpawnWorker(ctx, vm)
	must(t, err)
	vm.reset()
	if ops := vm.opsOf(func() { must(t, w.Close(ctx)) }); ops != "" {
		t.Errorf("operations: %s", ops)
	}
}

// TestObjectsOfOtherEpochs uses each kind of object after a reset, and after the restore
// of a snapshot in which it was.
func TestObjectsOfOtherEpochs(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	must(t, os.WriteFile(vm.guest.path("/f"), []byte("text"), 0o600))
	p, inSnapshot := start(t, agent, "sleep"), start(t, agent, "sleep")
	w, err := SpawnWorker(ctx, vm)
	must(t, err)
	f, err := agent.OpenFile(ctx, "/f", FileMode{Read: true})
	must(t, err)
	defer f.Close(context.Background())
	call, err := agent.SyscallAsync(ctx, guest.Syscall{})
	must(t, err)
	s, err := agent.TailFile(ctx, "/f", 0, false, site)
	must(t, err)
	mark := vm.epoch.Mark()
	late := start(t, agent, "sleep")

	uses := func(want string) {
		t.Helper()
		for name, do := range map[string]func() error{
			"process": func() error { _, _, err := p.Status(ctx, "proc:status"); return err },
			"worker": func() error {
				_, err := w.Syscall(ctx, "syscall",
					guest.Syscall{Nr: wire.CallGetpid})
				return err
			},
			"file":        func() error { _, err := f.Seek(ctx, "seek", 0, 0); return err },
			"system call": func() error { _, err := call.Await(ctx, time.Nanosecond); return err },
		} {
			err := do()
			switch {
			case want == "":
				var failed *guest.OpError
				if err != nil && !(errors.As(err, &failed) && failed.Name == "ETIMEDOUT") {
					t.Errorf("%s: %v", name, err)
				}
			default:
				wantError(t, err, strings.ReplaceAll(want, "WHAT", name))
			}
		}
	}
	opened := func(streams, files int, calls bool) {
		t.Helper()
		o := vm.Opened()
		if n := len(o.Streams(vm.epoch)); n != streams {
			t.Errorf("%d streams, want %d", n, streams)
		}
		if n := o.Files(vm.epoch); n != files {
			t.Errorf("%d files, want %d", n, files)
		}
		if o.HasCalls(vm.epoch) != calls {
			t.Errorf("calls: %v", !calls)
		}
	}
	uses("")
	opened(1, 1, true)
	vm.start(mark.Restore())
	uses("")
	opened(0, 1, true) // the stream went with its link
	_, _, err = late.Status(ctx, "proc:status")
	wantError(t, err, "proc:status: the process is gone: vm `a` was reset, booted or restored since")
	_, _, err = inSnapshot.Status(ctx, "proc:status")
	must(t, err)
	vm.reset()
	uses("the WHAT is gone: vm `a` was reset, booted or restored since")
	opened(0, 0, false)
	o := vm.Opened()
	if o.Files(nil) != 0 || o.HasCalls(nil) || len(o.Streams(nil)) != 0 {
		t.Error("something is open without a guest")
	}
	s.Close()
	vm.die()
	_, _, err = p.Status(ctx, "proc:status")
	wantError(t, err, errPanicked.Error())
	_, err = f.Read(ctx, 1)
	wantError(t, err, errPanicked.Error())
	must(t, p.Close(ctx))
	must(t, call.Close(ctx))
}

func TestStreamsThatOutliveEpochs(t *testing.T) {
	vm, _ := newVM(t)
	s := vm.Opened().AddStream(stream.Config{Kind: "console_read", Source: agentSource{}})
	if all := vm.Opened().Streams(nil); len(all) != 1 || all[0] != s {
		t.Errorf("%v", all)
	}
}

func TestStreams(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	for name, a := range all {
		for want, open := range map[string]func() (*stream.Stream, error){
			`tail_file("/f")`: func() (*stream.Stream, error) { return a.TailFile(ctx, "/f", -5, true, site) },
			`fd_stream(9)`:    func() (*stream.Stream, error) { return a.FDStream(ctx, 9, site) },
		} {
			s, err := open()
			must(t, err)
			if !strings.HasPrefix(s.String(), want) || next(t, s) != "tail " {
				t.Errorf("%s: %s", name, s)
			}
			if len(vm.Opened().Streams(vm.epoch)) != 1 || s.EOF() {
				t.Errorf("%s: not open", s)
			}
			s.Close()
			if len(vm.Opened().Streams(vm.epoch)) != 0 {
				t.Errorf("%s: still open", s)
			}
			requests := vm.guest.sawRequests()
			last := requests[len(requests)-1]
			executor := a.executor()
			if !reflect.DeepEqual(last, wire.Request(&wire.TailFile{Path: "/f", Start: -5, FromEnd: true,
				Worker: executor})) &&
				!reflect.DeepEqual(last, wire.Request(&wire.FDTail{Executor: executor, FD: 9})) {
				t.Errorf("%+v", last)
			}
		}
	}
}

func TestSyscalls(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	var seen *wire.Syscall
	vm.guest.onSyscall(wire.CallIoctl, func(s *wire.Syscall, bufs [][]byte) (int64, uint32) {
		seen = s
		copy(bufs[0], "OUT")
		return 0, 0
	})
	for name, a := range all {
		r, err := a.Syscall(ctx, "syscall", guest.Syscall{Nr: wire.CallClose, Args: [6]int64{-1}})
		if err != nil || r.Ret != -1 || r.Errno != int(unix.EBADF) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		r, err = a.Ioctl(ctx, 4, 0x5401, []byte("data----"), [][]byte{[]byte("one"), []byte("two")}, []uint64{0})
		if err != nil || string(r.Bufs[0]) != "OUTa----" {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		want := &wire.Syscall{Executor: a.executor(), Nr: wire.CallIoctl, Args: []int64{4, 0x5401},
			Lens:   []uint64{8, 3, 3},
			Ptrs:   []uint64{2, 0},
			Nested: []uint64{0, 1, 0}, Data: wire.Bulk{Inline: []byte("OUTa----onetwo")}, Portable: true}
		if !reflect.DeepEqual(seen, want) {
			t.Errorf("%s: %+v", name, seen)
		}
		if data, errno, err := a.ReadMem(ctx, 0x1000, 3); string(data) != "mmm" || errno != 0 || err != nil {
			t.Errorf("%s: %q, %d, %v", name, data, errno, err)
		}
		if data, errno, err := a.ReadMem(ctx, 0, 3); data != nil || errno != int(unix.EFAULT) || err != nil {
			t.Errorf("%s: %q, %d, %v", name, data, errno, err)
		}
	}
	vm.guest.onSyscall(wire.CallIoctl, func(*wire.Syscall, [][]byte) (int64, uint32) { return 0, 0 })
	if r, err := all["vm"].Ioctl(ctx, 4, 1, nil, nil, nil); err != nil || len(r.Bufs) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	// Errors have the name of the call.
	vm.guest.onOp("syscall", &wire.Error{Text: "the executor has died"})
	_, err := all["worker"].Syscall(ctx, "ioctl", guest.Syscall{})
	wantError(t, err, "ioctl: the executor has died")
	_, err = all["vm"].Syscall(ctx, "ioctl", guest.Syscall{})
	wantError(t, err, "ioctl: the executor has died")
}

// TestWriteMem looks at the system call that stores bytes in an executor.
func TestWriteMem(t *testing.T) {
	vm, all := actors(t)
	var seen *wire.Syscall
	ret, errno := int64(0), uint32(0)
	vm.guest.onSyscall(wire.CallGetpid, func(*wire.Syscall, [][]byte) (int64, uint32) { return 77, 0 })
	vm.guest.onSyscall(wire.CallProcessVMWritev, func(s *wire.Syscall, bufs [][]byte) (int64, uint32) {
		seen = s
		for i, want := range []string{"\x00\x00\x10\x00", "\x05\x00\x00\x00"} {
			if got := bufs[0][16*i+8:][:4]; string(got) != want {
				t.Errorf("piece %d has the length %q", i, got)
			}
		}
		if string(bufs[1]) != "\x34\x12\x00\x00\x00\x00\x00\x00\x05\x00\x10\x00\x00\x00\x00\x00" {
			t.Errorf("to %q", bufs[1])
		}
		return ret, errno
	})
	data := bytes.Repeat([]byte("x"), maxPiece+5)
	for name, a := range all {
		for _, tc := range []struct {
			ret   int64
			errno uint32
			want  int
		}{{int64(len(data)), 0, 0}, {4096, 0, int(unix.EFAULT)}, {-1, uint32(unix.EPERM), int(unix.EPERM)}} {
			ret, errno = tc.ret, tc.errno
			got, err := a.WriteMem(t.Context(), 0x1234, data)
			if got != tc.want || err != nil {
				t.Errorf("%s: %+v: %d, %v", name, tc, got, err)
			}
		}
		if !slices.Equal(seen.Args, []int64{77, 0, 2, 0, 1}) || seen.Executor != a.executor() ||
			!slices.Equal(seen.Ptrs, []uint64{1, 0, 3, 1}) || !slices.Equal(seen.Nested, []uint64{0, 2, 0, 0, 3, 16}) {
			t.Errorf("%s: %+v", name, seen)
		}
	}
	vm.guest.onOp("syscall", &wire.Error{Text: "the executor has died"})
	_, err := all["vm"].WriteMem(t.Context(), 0, nil)
	wantError(t, err, "write_mem: the executor has died")
}

func TestAsyncSyscall(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	call, err := agent.SyscallAsync(ctx, guest.Syscall{Bufs: [][]byte{[]byte("abc")}})
	must(t, err)
	if call.String() != "system call(1)" || call.Done() || call.VM() != VM(vm) || !vm.Opened().HasCalls(vm.epoch) {
		t.Errorf("%s, done %v", call, call.Done())
	}
	_, err = call.Await(ctx, time.Millisecond)
	wantError(t, err, "await: ", "ETIMEDOUT")
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := call.Await(short, 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if call.Done() {
		t.Error("awaited by a wait that ended")
	}
	vm.guest.finish(call.Handle())
	if r, err := call.Await(ctx, 0); err != nil || r.Ret != 7 || string(r.Bufs[0]) != "out" {
		t.Errorf("%+v, %v", r, err)
	}
	if !call.Done() || vm.Opened().HasCalls(vm.epoch) {
		t.Error("not done")
	}
	_, err = call.Await(ctx, 0)
	wantError(t, err, "handle already awaited")
	if ops := vm.opsOf(func() { must(t, call.Close(ctx)) }); ops != "" {
		t.Errorf("operations: %s", ops)
	}
}

func TestAsyncSyscallThatIsClosed(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	call, err := agent.SyscallAsync(ctx, guest.Syscall{})
	must(t, err)
	if ops := vm.opsOf(func() { must(t, call.Close(ctx)) }); ops != "close" {
		t.Errorf("operations: %s", ops)
	}
	if !call.Done() || vm.Opened().HasCalls(vm.epoch) {
		t.Error("not closed")
	}
	// Awaiting a call whose guest has lost it uses it up.
	call, err = agent.SyscallAsync(ctx, guest.Syscall{})
	must(t, err)
	vm.guest.onOp("syscall_await", &wire.Error{Text: "no such call"})
	_, err = call.Await(ctx, 0)
	wantError(t, err, "await: no such call")
	if !call.Done() || vm.Opened().HasCalls(vm.epoch) {
		t.Error("not done")
	}
}

func TestFile(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	for name, a := range all {
		f, err := a.OpenFile(ctx, "/"+name, FileMode{Read: true, Write: true, Create: true, Exclusive: true,
			Perm: 0o640})
		must(t, err)
		if f.String() != "file(/"+name+")" || f.By() != a || f.VM() != VM(vm) || f.FD() == 0 {
			t.Errorf("%s", f)
		}
		_, err = a.OpenFile(ctx, "/"+name, FileMode{Write: true, Create: true, Exclusive: true})
		wantErrno(t, err, "open_file", "/"+name, unix.EEXIST)
		large := bytes.Repeat([]byte("0123456789"), 200<<10) // above the size of one call
		n, err := f.Write(ctx, large)
		if n != maxPiece || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		n, err = f.Write(ctx, large[n:])
		if n != len(large)-maxPiece || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if at, err := f.Seek(ctx, "seek", 0, unix.SEEK_SET); at != 0 || err != nil {
			t.Errorf("%d, %v", at, err)
		}
		p, err := f.Read(ctx, maxPiece+10)
		if !bytes.Equal(p, large[:maxPiece+10]) || err != nil {
			t.Errorf("%d bytes, %v", len(p), err)
		}
		p, err = f.ReadAll(ctx)
		if !bytes.Equal(p, large[maxPiece+10:]) || err != nil {
			t.Errorf("%d bytes, %v", len(p), err)
		}
		p, err = f.Read(ctx, 10)
		if len(p) != 0 || err != nil {
			t.Errorf("%d bytes at the end, %v", len(p), err)
		}
		_, err = f.Seek(ctx, "seek", -1, unix.SEEK_SET)
		wantErrno(t, err, "seek", "/"+name, unix.EINVAL)
		s, err := f.TailStream(ctx, site)
		must(t, err)
		if !strings.HasPrefix(s.String(), "file_tail_stream(") {
			t.Errorf("%s", s)
		}
		s.Close()
		if n := vm.Opened().Files(vm.epoch); n != 1 {
			t.Errorf("%d open files", n)
		}
		must(t, f.Close(ctx))
		must(t, f.Close(ctx))
		if n := vm.Opened().Files(vm.epoch); n != 0 || f.FD() != 0 {
			t.Errorf("%d open files", n)
		}
		_, err = f.Read(ctx, 1)
		wantError(t, err, "file is closed")
		_, err = f.Write(ctx, nil)
		wantError(t, err, "file is closed")
		_, err = f.TailStream(ctx, site)
		wantError(t, err, "file is closed")
	}
}

func TestFileModes(t *testing.T) {
	for want, m := range map[int64]FileMode{
		unix.O_RDONLY:                              {Read: true},
		unix.O_WRONLY | unix.O_CREAT:               {Write: true, Create: true},
		unix.O_WRONLY | unix.O_APPEND:              {Append: true},
		unix.O_RDWR | unix.O_TRUNC:                 {Read: true, Write: true, Truncate: true},
		unix.O_RDWR | unix.O_APPEND:                {Read: true, Append: true},
		unix.O_WRONLY | unix.O_EXCL | unix.O_CREAT: {Write: true, Exclusive: true, Create: true},
	} {
		if got := m.flags(); got != want|unix.O_CLOEXEC {
			t.Errorf("%+v: %o, want %o", m, got, want|unix.O_CLOEXEC)
		}
	}
}

// TestFileThatBreaksOff reads what came before an error, and not what cannot be.
func TestFileThatBreaksOff(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	must(t, os.WriteFile(vm.guest.path("/f"), nil, 0o600))
	f, err := agent.OpenFile(ctx, "/f", FileMode{Read: true})
	must(t, err)
	calls := 0
	vm.guest.onSyscall(wire.CallRead, func(_ *wire.Syscall, bufs [][]byte) (int64, uint32) {
		if calls++; calls == 1 {
			return int64(len(bufs[0])), 0
		}
		return -1, uint32(unix.EIO)
	})
	p, err := f.Read(ctx, 2*maxPiece)
	if len(p) != maxPiece || err != nil {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	_, err = f.ReadAll(ctx)
	wantErrno(t, err, "read", "/f", unix.EIO)
	for _, n := range []int64{-3, 11} {
		vm.guest.onSyscall(wire.CallRead, func(*wire.Syscall, [][]byte) (int64, uint32) { return n, 0 })
		_, err = f.Read(ctx, 10)
		wantError(t, err, "the guest's kernel says that it moved")
	}
	// A failing close is one for the test, but the descriptor is gone.
	vm.guest.onSyscall(wire.CallClose, func(s *wire.Syscall, _ [][]byte) (int64, uint32) {
		must(t, unix.Close(int(s.Args[0])))
		return -1, uint32(unix.EIO)
	})
	wantErrno(t, f.Close(ctx), "close", "/f", unix.EIO)
	must(t, f.Close(ctx))
}

func TestFileOfAnExecutorThatDied(t *testing.T) {
	vm, all := actors(t)
	ctx := t.Context()
	for name, a := range all {
		f, err := a.OpenFile(ctx, "/"+name, FileMode{Write: true, Create: true, Perm: 0o600})
		must(t, err)
		vm.guest.kill(a.executor())
		_, err = f.Write(ctx, []byte("x"))
		wantError(t, err, "the executor has died since")
		if n := vm.Opened().Files(vm.epoch); n != 0 {
			t.Errorf("%s: %d open files", name, n)
		}
		must(t, f.Close(ctx)) // there is nothing to close
	}
}

func TestFilesGoWithTheirWorker(t *testing.T) {
	vm, _ := newVM(t)
	ctx := t.Context()
	w, err := SpawnWorker(ctx, vm)
	must(t, err)
	f, err := w.OpenFile(ctx, "/f", FileMode{Write: true, Create: true, Perm: 0o600})
	must(t, err)
	must(t, w.Close(ctx))
	if n := vm.Opened().Files(vm.epoch); n != 0 {
		t.Errorf("%d open files", n)
	}
	must(t, f.Close(ctx))
}

func TestFileOfAGuestThatIsGone(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	f, err := agent.OpenFile(ctx, "/f", FileMode{Write: true, Create: true, Perm: 0o600})
	must(t, err)
	vm.die()
	must(t, f.Close(ctx))
	_, err = agent.OpenFile(ctx, "/f", FileMode{Read: true})
	wantError(t, err, errPanicked.Error())
}

// TestDescriptorZero has a test that closed the executor's standard input before.
func TestDescriptorZero(t *testing.T) {
	vm, agent := newVM(t)
	ctx := t.Context()
	vm.guest.onSyscall(wire.CallOpenat, func(*wire.Syscall, [][]byte) (int64, uint32) { return 0, 0 })
	dup := int64(8)
	var errno uint32
	closed := false
	vm.guest.onSyscall(wire.CallFcntl, func(s *wire.Syscall, _ [][]byte) (int64, uint32) { return dup, errno })
	vm.guest.onSyscall(wire.CallClose, func(s *wire.Syscall, _ [][]byte) (int64, uint32) {
		closed = len(s.Args) == 0 // descriptor 0
		return 0, 0
	})
	f, err := agent.OpenFile(ctx, "/f", FileMode{Read: true})
	must(t, err)
	if f.FD() != 8 || !closed {
		t.Errorf("descriptor %d", f.FD())
	}
	dup, errno = -1, uint32(unix.EMFILE)
	_, err = agent.OpenFile(ctx, "/f", FileMode{Read: true})
	wantErrno(t, err, "open_file", "/f", unix.EMFILE)
	vm.guest.onSyscall(wire.CallOpenat, func(*wire.Syscall, [][]byte) (int64, uint32) {
		vm.guest.onOp("syscall", &wire.Error{Text: "the executor has died"})
		return 0, 0
	})
	_, err = agent.OpenFile(ctx, "/f", FileMode{Read: true})
	wantError(t, err, "the executor has died")
}
