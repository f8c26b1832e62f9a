package lua

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

var bg = context.Background()

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRequire(t *testing.T) {
	dir := t.TempDir()
	one, two, three := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "three")
	write(t, filepath.Join(one, "a/b.lua"), "return {from = 'one', args = {...}}")
	write(t, filepath.Join(two, "a/b.lua"), "return {from = 'two'}")
	write(t, filepath.Join(two, "c.lua"), "#!/usr/bin/lua\nreturn {from = 'two', line = debug.getinfo(1).currentline}")
	write(t, filepath.Join(two, "bad.lua"), "\nx =")
	write(t, filepath.Join(two, "fails.lua"), "\nerror('no')")
	write(t, filepath.Join(three, "d.lua"), "return 'three'")
	s := newState(t, Config{Roots: []string{one, two}, ChunkName: func(p string) string {
		rel, _ := filepath.Rel(dir, p)
		return rel
	}})
	got := mustEval(t, s, `
		package.preload.p = function() return "preloaded" end
		local m = require "a.b"
		return m.from, m.args[1], m.args[2], require "a.b" == m, require "c".from, require "c".line, require "p"`)
	want := []Value{"one", "a.b", filepath.Join(one, "a/b.lua"), true, "two", int64(2), "preloaded"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("result %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if got := mustEval(t, s, "package.path = ... .. '/?.lua' return (require 'd')", three); got[0] != "three" {
		t.Errorf("package.path: got %v", got)
	}
	for code, want := range map[string]string{
		"require 'none'":    "module 'none' not found:",
		"require 'no.ne'":   "no file '" + filepath.Join(one, "no/ne.lua") + "'",
		"require 'bad'":     "two/bad.lua:2: unexpected symbol",
		"require 'fails'":   "two/fails.lua:2: no",
		"require 'a\\0b'":   "not found",
		"package.loadlib()": "attempt to call a nil value",
	} {
		if _, err := eval(t, s, code); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", code, err, want)
		}
	}
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lua")
	write(t, path, "\xef\xbb\xbf#!/bin/lua\nerror('here')")
	s := newState(t, Config{})
	long := strings.Repeat("long/", 30) + "x.lua"
	for _, name := range []string{"x.lua", long} {
		fn, err := s.LoadFile(path, name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Call(bg, fn)
		var e *Error
		if !errors.As(err, &e) || e.At != (Position{Source: name, Line: 2, File: true}) {
			t.Errorf("got %v at %v", err, e.At)
		}
	}
	if _, err := s.LoadFile(path+"x", "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := s.LoadString("\x1bLuaS", "b"); err == nil || !strings.Contains(err.Error(), "binary chunk") {
		t.Errorf("got %v", err)
	}
}

func TestPositions(t *testing.T) {
	s := newState(t, Config{})
	var caller, file Position
	var trace string
	define(t, s, "here", func(c *Call) ([]Value, error) {
		caller, file = c.Caller(), c.CallerFile()
		trace = c.Traceback()
		return nil, nil
	})
	long := strings.Repeat("dir/", 40) + "t.lua"
	fn, err := s.LoadString("\nload('\\n\\nhere()', '=(text)')()\npcall(here)\nhere()", long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Call(bg, fn); err != nil {
		t.Fatal(err)
	}
	want := Position{long, 4, true}
	if caller != want || file != want {
		t.Errorf("got %v %v", caller, file)
	}
	mustEval(t, s, "pcall(here)")
	if caller.String() != "t.lua:1" || file != caller {
		t.Errorf("through pcall: got %v %v", caller, file)
	}
	mustEval(t, s, "\nload('\\n\\nhere()', '=(text)')()")
	if caller.String() != "(text):3" || caller.File || file.String() != "t.lua:2" {
		t.Errorf("in a text: got %v %v", caller, file)
	}
	if !strings.HasPrefix(trace, "stack traceback:\n\t(text):3: in ") || !strings.Contains(trace, "t.lua:2: in ") {
		t.Errorf("traceback %q", trace)
	}
	mustEval(t, s, "load('here()')()")
	if caller.String() != `[string "here()"]:1` {
		t.Errorf("got %q", caller)
	}
}

func TestRaise(t *testing.T) {
	s := newState(t, Config{})
	cause := errors.New("cause")
	var raise error
	define(t, s, "raise", func(c *Call) ([]Value, error) { return nil, raise })
	tbl := s.NewTable()
	for _, tc := range []struct {
		raise error
		want  string
	}{
		{&Raise{Value: "bare"}, "bare"},
		{&Raise{Value: "one", Level: 1}, "t.lua:2: one"},
		{&Raise{Value: "two", Level: 2, Err: cause}, "t.lua:4: two"},
		{&Raise{Value: "far", Level: 99}, "far"},
		{&Raise{Value: int64(7)}, "7"},
		{&Raise{Value: tbl, Err: cause}, "(error object is a table value)"},
		{&Raise{Value: struct{}{}}, "error value: lua value: Go type struct {} has no Lua form"},
		{&Error{Value: "as it was", cause: cause}, "as it was"},
		{errors.New("plain"), "t.lua:2: plain"},
	} {
		raise = tc.raise
		_, err := eval(t, s, "local function f()\nraise()\nend\nf()")
		var e *Error
		if !errors.As(err, &e) || e.Message != tc.want {
			t.Errorf("%v: got %v", tc.raise, err)
			continue
		}
		if _, isString := e.Value.(string); isString && errors.Is(tc.raise, cause) && !errors.Is(err, cause) {
			t.Errorf("%v: the cause is lost", tc.raise)
		}
		if tc.want == "(error object is a table value)" && !same(t, s, e.Value, tbl) {
			t.Errorf("got %v", e.Value)
		}
	}
	// An error of a nested call goes on with its traceback.
	define(t, s, "call", func(c *Call) ([]Value, error) { return c.Call(c.Arg(1)) })
	raise = cause
	_, err := eval(t, s, "call(function()\nraise()\nend)")
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, cause) || e.Message != "t.lua:2: cause" || e.At.Line != 2 {
		t.Errorf("got %v at %v", err, e.At)
	}
}

// TestNoLeak makes many states and looks at the memory of the process.
func TestNoLeak(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector uses memory by itself")
	}
	n := 10000
	if testing.Short() {
		n = 1000
	}
	one := func() {
		s, err := New(Config{Stdout: nowhere{}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		must(s.SetGlobal("vm", s.NewUserdata(machineType, &machine{name: "x"})))
		mustEval(t, s, `
			local t = {} for i = 1, 100 do t[i] = {vm:run(i)} end
			pcall(vm.read_file, vm) pcall(error)
			coroutine.wrap(function() coroutine.yield() end)()
			setmetatable({}, {__gc = function() end})
			return t, vm, print`)
		eval(t, s, "error('x')")
	}
	for range n / 5 {
		one()
	}
	runtime.GC()
	before := rss(t)
	for range n {
		one()
	}
	runtime.GC()
	if after := rss(t); after > before+16<<20 {
		t.Errorf("%d MiB before, %d MiB after %d states", before>>20, after>>20, n)
	}
}

func rss(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func TestSethook(t *testing.T) {
	s := newState(t, Config{})
	got := mustEval(t, s, `
local lines, counts, calls = 0, 0, 0
debug.sethook(function(e, l) lines = lines + 1 end, "l")
local a = 1
local b = 2
debug.sethook(function(e) counts = counts + 1 end, "", 10)
for i = 1, 1000 do end
debug.sethook(function(e) counts = counts + 1 end, "", 100000)
for i = 1, 1000000 do end
local f, m, n = debug.gethook()
debug.sethook(function(e) calls = calls + 1 end, "c")
math.abs(1)
debug.sethook()
return lines, counts, calls, m, n, debug.gethook()`)
	lines, counts, calls := got[0].(int64), got[1].(int64), got[2].(int64)
	if lines != 3 || counts < 100 || counts > 130 || calls != 2 || got[3] != "" || got[4] != int64(100000) ||
		got[5] != nil {
		t.Errorf("got %v", got)
	}
	if _, err := eval(t, s, "debug.sethook(function() error('from hook') end, 'l')\nlocal x = 1"); err == nil ||
		!strings.Contains(err.Error(), "from hook") {
		t.Errorf("got %v", err)
	}
	mustEval(t, s, "debug.sethook()")
}

func BenchmarkCall(b *testing.B) {
	s := newState(b, Config{})
	define(b, s, "f", func(c *Call) ([]Value, error) { return nil, nil })
	fn, err := s.LoadString("local f, n = f, ... for i = 1, n do f(i) end", "b.lua")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if _, err := s.Call(bg, fn, b.N); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkMethod(b *testing.B) {
	s := newState(b, Config{})
	must(s.SetGlobal("vm", s.NewUserdata(machineType, &machine{name: "x"})))
	fn, err := s.LoadString("local vm, n = vm, ... for i = 1, n do vm:run('arg') end", "b.lua")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if _, err := s.Call(bg, fn, b.N); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkLoop(b *testing.B) {
	s := newState(b, Config{})
	fn, err := s.LoadString("for i = 1, (...) do end", "b.lua")
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	if _, err := s.Call(bg, fn, b.N); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkNew(b *testing.B) {
	for range b.N {
		s, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
