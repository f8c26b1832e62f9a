package lua

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"provium/internal/fulltest"
)

// osThreads returns the number of OS threads of the process.
func osThreads(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// gate makes "wait(n)", which blocks until open is called, and reports how many wait.
func gate(t *testing.T, s *State) (waiting func() int, open func()) {
	n, gate := make(chan int, 1), make(chan struct{})
	n <- 0
	must(s.SetGlobal("wait", s.NewBlockingFunction("wait", func(c *Call) ([]Value, error) {
		err := c.Block(func(ctx context.Context) error {
			n <- <-n + 1
			select {
			case <-gate:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		return []Value{c.Arg(1)}, err
	})))
	return func() int { now := <-n; n <- now; return now }, func() { close(gate) }
}

// startAll starts threads that run code with their number, and returns when all of them wait.
func startAll(t *testing.T, s *State, code string, n int, waiting func() int) []*Thread {
	fn, err := s.LoadString(code, "t.lua")
	if err != nil {
		t.Fatal(err)
	}
	threads := make([]*Thread, n)
	for i := range threads {
		threads[i] = s.Go(context.Background(), fn, i)
	}
	s.Block(func() error {
		for waiting() < n {
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	return threads
}

// TestWaitingThreadsHoldNoOSThread has more threads wait than the Go runtime allows OS
// threads, also inside pcall, metamethods and iterators.
func TestWaitingThreadsHoldNoOSThread(t *testing.T) {
	s := newState(t, Config{})
	waiting, open := gate(t, s)
	before := osThreads(t)
	code := `local n = ...
		if n % 4 == 0 then return wait(n) + 1 end
		if n % 4 == 1 then local ok, v = pcall(wait, n) assert(ok) return v + 1 end
		if n % 4 == 2 then return setmetatable({}, {__index = function(_, k) return wait(k) + 1 end})[n] end
		for v in wait, n, n do return v + n + 1 end`
	most := fulltest.Of(1_000, 10_000) // which is Go's own limit
	defer debug.SetMaxThreads(debug.SetMaxThreads(most))
	n := most + most/10
	threads := startAll(t, s, code, n, waiting)
	if after := osThreads(t); after > before+50 {
		t.Errorf("%d OS threads instead of %d", after, before)
	}
	open()
	for i, th := range threads {
		var vals []Value
		var err error
		s.Block(func() error { vals, err = th.Wait(context.Background()); return nil })
		want := int64(i + 1)
		if i%4 == 3 {
			want += int64(i)
		}
		if err != nil || vals[0] != want {
			t.Fatalf("thread %d: %v, %v", i, vals, err)
		}
	}
}

// TestPinnedThreads has threads wait in a function that sort calls, each with its C stack.
func TestPinnedThreads(t *testing.T) {
	s := newState(t, Config{})
	waiting, open := gate(t, s)
	s.pinned = maxPinned - 10
	code := `table.sort({1, 2}, function() wait() end)`
	threads := startAll(t, s, code, 10, waiting)
	_, err := eval(t, s, code)
	if err == nil || !strings.Contains(err.Error(), "too many tasks: 2000 wait within") {
		t.Error(err)
	}
	open()
	for _, th := range threads {
		s.Block(func() error { _, err = th.Wait(context.Background()); return err })
		if err != nil {
			t.Error(err)
		}
	}
	if s.pinned != maxPinned-10 {
		t.Errorf("%d are pinned", s.pinned)
	}
}

// leaving makes functions that leave their thread.
func leaving(t *testing.T) *State {
	s := newState(t, Config{})
	for name, fn := range map[string]GoFunc{
		"same": func(c *Call) ([]Value, error) { return c.Args(), nil },
		"fail": func(c *Call) ([]Value, error) { return nil, errors.New("no") },
		"raise": func(c *Call) ([]Value, error) {
			return nil, &Raise{Value: "level", Level: int(c.Arg(1).(int64))}
		},
		"call":  func(c *Call) ([]Value, error) { return c.Call(c.Arg(1), c.Args()[1:]...) },
		"text":  func(c *Call) ([]Value, error) { s, err := c.ToString(c.Arg(1)); return []Value{s}, err },
		"where": func(c *Call) ([]Value, error) { return []Value{c.Caller().String()}, nil },
		"trace": func(c *Call) ([]Value, error) { return []Value{c.Traceback()}, nil },
		"panic": func(c *Call) ([]Value, error) { panic("oh no") },
		"left":  func(c *Call) ([]Value, error) { return []Value{c.left}, nil },
	} {
		must(s.SetGlobal(name, s.NewBlockingFunction(name, fn)))
	}
	return s
}

// TestLeaving calls functions for which the Lua thread is left. Lua code sees no difference.
func TestLeaving(t *testing.T) {
	s := leaving(t)
	for code, want := range map[string]Value{
		"return left()":                                                                     true,
		"return select('#', same(nil, 2, nil))":                                             int64(3),
		"return (select(40, same(table.unpack({}, 1, 50))))":                                nil,
		"return #same(('x'):rep(1 << 20))":                                                  int64(1 << 20),
		"local ok, e = pcall(fail) return e":                                                "t.lua:1: no",
		"\nlocal ok, e = pcall(function() raise(1) end) return e":                           "t.lua:2: level",
		"local function f() raise(2) end\nlocal ok, e = pcall(function() f() end) return e": "t.lua:2: level",
		"return call(function(...) return left() end)":                                      false,
		"return call(function(a, b) return a + b end, 1, 2)":                                int64(3),
		"return text(setmetatable({}, {__tostring = function() return 'mine' end}))":        "mine",
		"\n\nreturn where()":                                                                "t.lua:3",
		"\nreturn call(function()\nreturn where() end)":                                     "t.lua:3",
		"local ok, e = pcall(call, error, 'x') return e":                                    "x",
		"local ok, e = pcall(call, function() error('x') end) return e":                     "t.lua:1: x",
		"return coroutine.wrap(function() return left() end)()":                             false,
		"local l table.sort({1, 2}, function() l = left() end) return l":                    false,
		"local l string.gsub('a', 'a', function() l = left() end) return l":                 false,
		"return select(2, coroutine.running())":                                             true,
		"return coroutine.isyieldable()":                                                    false,
		"return coroutine.wrap(function() return coroutine.isyieldable() end)()":            true,

		"local _, e = pcall(coroutine.yield) return e": "attempt to yield from outside a coroutine",

		"local x do local c <close> = setmetatable({}, {__close = function() x = left() end}) end return x": true,
		"local x pcall(function() local c <close> = setmetatable({}, {__close = function() x = same(7) end}) " +
			"fail() end) return x": int64(7),
		"local t = {} for i = 1, 1000 do t[i] = same(i) end return t[1000]": int64(1000),
		"local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(same(i)) end end) return co() + co() + " +
			"co()": int64(6),
	} {
		if got := mustEval(t, s, code); len(got) != 1 || got[0] != want {
			t.Errorf("%s: got %v, want %v", code, got, want)
		}
	}
	text, _ := mustEval(t, s, "local function f()\nlocal t = trace() return t end\nlocal t = f() return t")[0].(string)
	if !strings.HasPrefix(text, "stack traceback:\n\tt.lua:2: in ") ||
		!strings.Contains(text, "t.lua:3: in main chunk") {
		t.Errorf("%q", text)
	}
}

// TestErrorsOfLeftThreads are those that end the thread itself.
func TestErrorsOfLeftThreads(t *testing.T) {
	s := leaving(t)
	_, err := eval(t, s, "local function f()\nfail() end\nf()")
	var e *Error
	if !errors.As(err, &e) || e.Message != "t.lua:2: no" || e.At.Line != 2 ||
		!strings.Contains(e.Traceback, "t.lua:3:") {
		t.Errorf("%+v", err)
	}
	_, err = eval(t, s, "local c <close> = setmetatable({}, {__close = function() CLOSED = same(true) end}) error({})")
	if !errors.As(err, &e) || s.Global("CLOSED") != true {
		t.Errorf("%v, closed: %v", err, s.Global("CLOSED"))
	}
	if _, ok := e.Value.(*Table); !ok || e.Traceback == "" {
		t.Errorf("%+v", e)
	}
	_, err = eval(t, s, "local function f() return f() + 1 end f()")
	if err == nil || !strings.Contains(err.Error(), "stack overflow") {
		t.Error(err)
	}
	_, err = eval(t, s, "pcall(panic) SURVIVED = true")
	var p *PanicError
	if !errors.As(err, &p) || s.Global("SURVIVED") != nil {
		t.Error(err)
	}
	_, err = eval(t, s, "error()")
	if !errors.As(err, &e) || e.Value != nil {
		t.Errorf("%+v", err)
	}
}

// TestTasksOfOthers has a thread try to do to another one, which waits, what only its host may.
func TestTasksOfOthers(t *testing.T) {
	s := newState(t, Config{})
	waiting, open := gate(t, s)
	threads := startAll(t, s, "MAIN = coroutine.running() wait(1) return 'end'", 1, waiting)
	for code, want := range map[string]Value{
		"return select(2, coroutine.resume(MAIN))":         "cannot resume non-suspended coroutine",
		"return select(2, pcall(coroutine.close, MAIN))":   "cannot close a normal coroutine",
		"return coroutine.status(MAIN)":                    "normal",
		"return coroutine.status(coroutine.running())":     "running",
		"return coroutine.isyieldable(MAIN)":               false,
		"return coroutine.status(coroutine.create(print))": "suspended",
	} {
		if got := mustEval(t, s, code); got[0] != want {
			t.Errorf("%s: got %v", code, got)
		}
	}
	open()
	var vals []Value
	s.Block(func() (err error) { vals, err = threads[0].Wait(context.Background()); return err })
	if len(vals) != 1 || vals[0] != "end" {
		t.Errorf("%v", vals)
	}
}

// TestInterruptOfLeftThreads stops threads that wait.
func TestInterruptOfLeftThreads(t *testing.T) {
	s := newState(t, Config{})
	waiting, _ := gate(t, s)
	cause := errors.New("stopped")
	threads := startAll(t, s, "while true do pcall(wait, 1) end", 10, waiting)
	for i, th := range threads {
		th.Interrupt(cause)
		var err error
		s.Block(func() error { _, err = th.Wait(context.Background()); return nil })
		var e *Error
		if !errors.Is(err, cause) || !errors.As(err, &e) || e.At.String() != "t.lua:1" {
			t.Errorf("thread %d: %v, at %v", i, err, e)
		}
	}
}

func BenchmarkLeave(b *testing.B) {
	s, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for name, leaves := range map[string]bool{"inline": false, "leaving": true} {
		must(s.SetGlobal("nop", s.newFunction("nop", func(*Call) ([]Value, error) { return nil, nil }, leaves)))
		fn, err := s.LoadString("for i = 1, "+strconv.Itoa(1000)+" do nop() end", "t.lua")
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Call(context.Background(), fn); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestStuck has an interrupted thread wait for commands, which Config.Stuck ends one after the other: no further one
// begins.
func TestStuck(t *testing.T) {
	file := t.TempDir() + "/pid"
	var stuck atomic.Int32
	s := newState(t, Config{Stuck: func() {
		text, err := os.ReadFile(file)
		pid, wrong := strconv.Atoi(strings.TrimSpace(string(text)))
		if err := errors.Join(err, wrong); err != nil {
			t.Error(err)
			return
		}
		stuck.Add(1)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}})
	must(s.SetGlobal("command", "echo $$ >"+file+".new; mv "+file+".new "+file+"; exec sleep 86399"))
	for _, code := range []string{"while true do pcall(os.execute, command) end",
		"while true do pcall(function() io.popen(command):read('a') end) end"} {
		_ = os.Remove(file)
		fn, err := s.LoadString(code, "t.lua")
		if err != nil {
			t.Fatal(err)
		}
		stuck.Store(0)
		th := s.Go(context.Background(), fn)
		go func() {
			for {
				if _, err := os.Stat(file); err == nil {
					th.Interrupt(errors.New("enough"))
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		err = s.Block(func() error { _, err := th.Wait(context.Background()); return err })
		if err == nil || !strings.Contains(err.Error(), "enough") || stuck.Load() != 1 {
			t.Errorf("%s: %v, %d times", code, err, stuck.Load())
		}
	}
	_ = os.Remove(file)
	fn, err := s.LoadString("left = io.popen(command) repeat local f = io.open('"+file+"') until f", "t.lua")
	if err == nil {
		_, err = s.Call(context.Background(), fn)
	}
	if err != nil {
		t.Fatal(err)
	}
	stuck.Store(0)
	s.Close()
	if stuck.Load() == 0 {
		t.Error("Close has waited for nothing")
	}
}
