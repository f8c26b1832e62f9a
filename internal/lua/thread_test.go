package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// interruptible are programs that would never end by themselves.
var interruptible = map[string]string{
	"loop":        "started() while true do end",
	"pcall":       "started() while true do pcall(function() while true do end end) end",
	"pcall of Go": "started() while true do pcall(nop) end",
	"xpcall handler": "started() while true do xpcall(function() while true do end end, function() while true do end " +
		"end) end",
	"deep pcall": "started() local function f(n) if n == 0 then while true do end end while true do pcall(f, n - 1) " +
		"end end f(50)",
	"coroutine": "started() while true do coroutine.wrap(function() while true do end end)() end",
	"resume":    "started() while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
	"deep resume": "local function f(n) if n == 0 then started() while true do end end while true do " +
		"coroutine.resume(coroutine.create(f), n - 1) end end f(6)",
	"older coroutine": "local co = coroutine.wrap(function() coroutine.yield() while true do end end) co() started() " +
		"co()",
	"close": "started() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true " +
		"do end",
	"close in coroutine": "started() while true do pcall(coroutine.wrap(function() local x <close> = " +
		"setmetatable({}, {__close = function() while true do end end}) while true do end end)) end",
	"close of coroutine": "started() local co = coroutine.create(function() local x <close> = setmetatable({}, " +
		"{__close = function() while true do end end}) while true do end end) coroutine.resume(co) " +
		"coroutine.close(co) while true do end",
	"tail call":    "started() local function f() return pcall(f) end while true do f() end",
	"tail of loop": "started() return pcall(function() while true do end end)",
	"metamethod":   "started() local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
	"sort":         "started() table.sort({3, 2, 1}, function() while true do end end)",
	"gsub":         "started() string.gsub('abc', '.', function() while true do end end)",
	"gc": "setmetatable({}, {__gc = function() started() while true do end end}) while true do local x = " +
		"{} end",
	"gc in pcall": "setmetatable({}, {__gc = function() started() while true do pcall(function() while " +
		"true do end end) end end}) while true do local x = {} end",
	"error object":          "started() error(setmetatable({}, {__tostring = function() while true do end end}))",
	"sethook":               "debug.sethook() started() while true do end",
	"sethook line":          "debug.sethook(function() end, 'l') started() while true do local x = 1 end",
	"sethook endless":       "debug.sethook(function() started() while true do end end, 'l') local x = 1\nlocal y = 2",
	"sethook count":         "debug.sethook(function() end, '', 1000000000) started() while true do end",
	"sethook in coroutine":  "started() coroutine.wrap(function() debug.sethook() while true do end end)()",
	"block":                 "started() block()",
	"block in pcall":        "started() while true do pcall(block) end",
	"call from Go":          "started() call(function() while true do end end)",
	"call from Go in pcall": "started() while true do pcall(call, function() while true do end end) end",
	"print":                 "started() while true do print() end",
	"load":                  "started() load(function() while true do end end)",
	"goto":                  "started() ::a:: goto a",
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func interruptState(t testing.TB) (s *State, started chan struct{}) {
	s = newState(t, Config{Stdout: nowhere{}})
	started = make(chan struct{}, 1)
	define(t, s, "started", func(c *Call) ([]Value, error) {
		select {
		case started <- struct{}{}:
		default:
		}
		return nil, nil
	})
	define(t, s, "nop", func(c *Call) ([]Value, error) { return nil, nil })
	define(t, s, "block", func(c *Call) ([]Value, error) {
		return nil, c.Block(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	})
	define(t, s, "call", func(c *Call) ([]Value, error) { return c.Call(c.Arg(1)) })
	return s, started
}

func TestInterrupt(t *testing.T) {
	cause := errors.New("timed out")
	for name, code := range interruptible {
		for _, delay := range []time.Duration{0, 3 * time.Millisecond} {
			t.Run(fmt.Sprint(name, " ", delay), func(t *testing.T) { interrupt(t, code, delay, cause) })
		}
	}
}

// interrupt runs code and interrupts it delay after it called started. The
// delay only varies what is interrupted.
func interrupt(t *testing.T, code string, delay time.Duration, cause error) {
	s, started := interruptState(t)
	fn, err := s.LoadString(code, "t.lua")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	th := s.Go(context.Background(), fn)
	go func() { <-started; <-time.After(delay); th.Interrupt(cause) }()
	s.Block(func() error { _, err = th.Wait(context.Background()); return nil })
	if !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.At.Source != "t.lua" || !strings.Contains(e.Traceback, "t.lua:") {
		t.Errorf("at %v, traceback %q", e.At, e.Traceback)
	}
	if testing.Verbose() {
		t.Logf("%v, at %v", time.Since(begin), e.At)
	}
	// The state goes on.
	if got := mustEval(t, s, "return 1 + 1"); got[0] != int64(2) {
		t.Errorf("got %v", got)
	}
}

func TestContextInterrupts(t *testing.T) {
	s, started := interruptState(t)
	fn, err := s.LoadString("started() while true do end", "t.lua")
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { <-started; cancel(cause) }()
	if _, err := s.Call(ctx, fn); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	ran := false
	define(t, s, "ran", func(*Call) ([]Value, error) { ran = true; return nil, nil })
	fn, _ = s.LoadString("ran()", "t.lua")
	if _, err := s.Call(ctx, fn); !errors.Is(err, cause) || ran {
		t.Errorf("ended context: got %v, ran %v", err, ran)
	}
}

// rendezvous makes "meet(n)", which blocks until n threads are in it.
func rendezvous(t *testing.T, s *State) {
	var mu sync.Mutex
	waiting := 0
	gate := make(chan struct{})
	define(t, s, "meet", func(c *Call) ([]Value, error) {
		n := int(c.Arg(1).(int64))
		return nil, c.Block(func(ctx context.Context) error {
			mu.Lock()
			g := gate
			if waiting++; waiting == n {
				waiting, gate = 0, make(chan struct{})
				close(g)
			}
			mu.Unlock()
			select {
			case <-g:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
}

func TestBlockFromAnywhere(t *testing.T) {
	s := newState(t, Config{})
	rendezvous(t, s)
	mustEval(t, s, `package.preload.mod = function() meet(8) return true end`)
	var threads []*Thread
	for i, code := range []string{
		"meet(8)",
		"assert(pcall(pcall, meet, 8))",
		"string.gsub('a', '.', function() meet(8) end)",
		"local once; table.sort({3, 2, 1}, function(a, b) if not once then once = true meet(8) end return a < b end)",
		"local _ = setmetatable({}, {__index = function() meet(8) return 1 end}).x",
		"local co = coroutine.wrap(function() coroutine.yield(1) meet(8) coroutine.yield(2) end) co() " +
			"assert(co() == 2)",
		"require 'mod'",
		"for _ in function() if not DONE then DONE = true meet(8) return 1 end end do end do local c <close> = " +
			"setmetatable({}, {__close = function() end}) end",
	} {
		fn, err := s.LoadString(code+fmt.Sprintf(" for i = 1, 100 do meet(8) end return %d", i), "t.lua")
		if err != nil {
			t.Fatal(err)
		}
		threads = append(threads, s.Go(context.Background(), fn))
	}
	for i, th := range threads {
		var vals []Value
		var err error
		s.Block(func() error { vals, err = th.Wait(context.Background()); return nil })
		if err != nil || vals[0] != int64(i) {
			t.Errorf("thread %d: %v %v", i, vals, err)
		}
	}
}

// TestNested runs threads inside Go functions of threads, down to the limit.
func TestNested(t *testing.T) {
	s := newState(t, Config{})
	define(t, s, "run", func(c *Call) ([]Value, error) {
		return c.State().Call(c.Context(), c.Arg(1), c.Args()[1:]...)
	})
	got := mustEval(t, s, "local function f(n) return n == 0 and 'end' or run(f, n - 1) end return f(10)")
	if got[0] != "end" {
		t.Errorf("got %v", got)
	}
	_, err := eval(t, s, "local function f() return run(f) end return f()")
	if err == nil || !strings.Contains(err.Error(), "stack overflow") {
		t.Errorf("got %v", err)
	}
}

func TestRecursionThroughGo(t *testing.T) {
	s := newState(t, Config{})
	define(t, s, "call", func(c *Call) ([]Value, error) { return c.Call(c.Arg(1), c.Args()[1:]...) })
	_, err := eval(t, s, "local function f() return call(f) end f()")
	if err == nil || !strings.Contains(err.Error(), "stack overflow") {
		t.Errorf("got %v", err)
	}
	got := mustEval(t, s, "local function f(n) return n == 0 and 'end' or call(f, n - 1) end return f(50)")
	if got[0] != "end" {
		t.Errorf("got %v", got)
	}
}

func TestYieldAcrossGo(t *testing.T) {
	s := newState(t, Config{})
	define(t, s, "call", func(c *Call) ([]Value, error) { return c.Call(c.Arg(1)) })
	_, err := eval(t, s, "coroutine.wrap(function() call(coroutine.yield) end)()")
	if err == nil || !strings.Contains(err.Error(), "attempt to yield across a C-call boundary") {
		t.Errorf("got %v", err)
	}
}

func TestPanic(t *testing.T) {
	s := newState(t, Config{})
	after := false
	define(t, s, "after", func(*Call) ([]Value, error) { after = true; return nil, nil })
	define(t, s, "crash", func(*Call) ([]Value, error) { panic("oh no") })
	_, err := eval(t, s, "pcall(crash) after()")
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "oh no" || p.Function != "?" || !strings.Contains(p.Stack, "thread_test.go") {
		t.Errorf("got %v", err)
	}
	if after {
		t.Error("went on after the panic")
	}
	mustEval(t, s, "after()")
}

func TestCloseWithThreads(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	rendezvous(t, s)
	var threads []*Thread
	for _, code := range []string{"while true do end", "meet(100)", "pcall(meet, 100) meet(100)"} {
		fn, err := s.LoadString(code, "t.lua")
		if err != nil {
			t.Fatal(err)
		}
		threads = append(threads, s.Go(context.Background(), fn))
		s.NewThread(context.Background(), fn)
	}
	s.Close()
	s.Close()
	for _, th := range threads {
		if _, err := th.Wait(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestCloseWithEndlessFinalizer(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	mustEval(t, s,
		"X = setmetatable({}, {__gc = function() while true do pcall(function() while true do end end) end end})")
	s.Close()
}

func TestBatonIsFair(t *testing.T) {
	s := newState(t, Config{})
	var order []int64
	define(t, s, "turn", func(c *Call) ([]Value, error) {
		order = append(order, c.Arg(1).(int64))
		return nil, c.Block(func(context.Context) error { return nil })
	})
	fn, err := s.LoadString("local id = ... for i = 1, 50 do turn(id) end", "t.lua")
	if err != nil {
		t.Fatal(err)
	}
	var threads []*Thread
	for i := range 3 {
		threads = append(threads, s.Go(context.Background(), fn, i))
	}
	s.Block(func() error {
		for _, th := range threads {
			<-th.Done()
		}
		return nil
	})
	if len(order) != 150 {
		t.Errorf("%d turns", len(order))
	}
}

func TestMisuse(t *testing.T) {
	s := newState(t, Config{})
	expectPanic := func(name, want string, fn func()) {
		t.Helper()
		defer func() {
			if p := fmt.Sprint(recover()); !strings.Contains(p, want) {
				t.Errorf("%s: got %q, want %q", name, p, want)
			}
		}()
		fn()
	}
	expectPanic("no baton", "without its baton", func() {
		s.Block(func() error { s.NewTable(); return nil })
	})
	closed, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	tbl := closed.NewTable()
	closed.Close()
	expectPanic("closed", "after Close", func() { closed.NewTable() })
	expectPanic("closed table", "after Close", func() { tbl.Get(1) })
	th := s.NewThread(context.Background(), s.NewFunction("f", func(*Call) ([]Value, error) { return nil, nil }))
	if _, err := th.Run(); err != nil {
		t.Error(err)
	}
	expectPanic("twice", "started twice", func() { th.Run() })
}

// Go starts fn in a new thread with a goroutine of its own. It begins when the
// caller releases the baton.
func (s *State) Go(ctx context.Context, fn Value, args ...Value) *Thread {
	t := s.NewThread(ctx, fn, args...)
	t.Start()
	return t
}
