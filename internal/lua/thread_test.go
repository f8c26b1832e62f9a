package lua

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// interruptible are programs that would never end by themselves.
var interruptible = map[string]string{
	"loop":                  "started() while true do end",
	"pcall":                 "started() while true do pcall(function() while true do end end) end",
	"pcall of Go":           "started() while true do pcall(nop) end",
	"xpcall handler":        "started() while true do xpcall(function() while true do end end, function() while true do end end) end",
	"deep pcall":            "started() local function f(n) if n == 0 then while true do end end while true do pcall(f, n - 1) end end f(50)",
	"coroutine":             "started() while true do coroutine.wrap(function() while true do end end)() end",
	"resume":                "started() while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
	"deep resume":           "local function f(n) if n == 0 then started() while true do end end while true do coroutine.resume(coroutine.create(f), n - 1) end end f(6)",
	"older coroutine":       "local co = coroutine.wrap(function() coroutine.yield() while true do end end) co() started() co()",
	"close":                 "started() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end",
	"close in coroutine":    "started() while true do pcall(coroutine.wrap(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end end)) end",
	"close of coroutine":    "started() local co = coroutine.create(function() local x <close> = setmetatable({}, {__close = function() while true do end end}) while true do end end) coroutine.resume(co) coroutine.close(co) while true do end",
	"tail call":             "started() local function f() return pcall(f) end while true do f() end",
	"tail of loop":          "started() return pcall(function() while true do end end)",
	"metamethod":            "started() local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
	"sort":                  "started() table.sort({3, 2, 1}, function() while true do end end)",
	"gsub":                  "started() string.gsub('abc', '.', function() while true do end end)",
	"gc":                    "setmetatable({}, {__gc = function() started() while true do end end}) while true do local x = {} end",
	"gc in pcall":           "setmetatable({}, {__gc = function() started() while true do pcall(function() while true do end end) end end}) while true do local x = {} end",
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
		t.Run(name, func(t *testing.T) {
			s, started := interruptState(t)
			fn, err := s.LoadString(code, "t.lua")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			th := s.Go(context.Background(), fn)
			go func() { <-started; th.Interrupt(cause) }()
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
		})
	}
}
