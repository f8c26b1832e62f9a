package lua

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func newState(t testing.TB, cfg Config) *State {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// eval runs code as the chunk "t.lua" in a thread of its own.
func eval(t testing.TB, s *State, code string, args ...Value) ([]Value, error) {
	t.Helper()
	fn, err := s.LoadString(code, "t.lua")
	if err != nil {
		return nil, err
	}
	return s.Call(context.Background(), fn, args...)
}

func mustEval(t testing.TB, s *State, code string, args ...Value) []Value {
	t.Helper()
	vals, err := eval(t, s, code, args...)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			t.Fatalf("%v\n%s", err, e.Traceback)
		}
		t.Fatal(err)
	}
	return vals
}

// same reports whether a and b are the same Lua value.
func same(t testing.TB, s *State, a, b Value) bool {
	t.Helper()
	return mustEval(t, s, "return rawequal(...)", a, b)[0] == true
}

func define(t testing.TB, s *State, name string, fn GoFunc) {
	t.Helper()
	if err := s.SetGlobal(name, fn); err != nil {
		t.Fatal(err)
	}
}

func TestEval(t *testing.T) {
	s := newState(t, Config{})
	got := mustEval(t, s, `local a, b = ... return a + b, a / b, "x\0y", true, nil, 1 << 62`, 7, int64(2))
	want := []Value{int64(9), 3.5, "x\x00y", true, nil, int64(1) << 62}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("result %d: got %#v, want %#v", i+1, got[i], want[i])
		}
	}
}

func TestTemporaryNames(t *testing.T) {
	dir := t.TempDir()
	s := newState(t, Config{TempDir: dir})
	const code = `local a, b = os.tmpname(), os.tmpname(); assert(a ~= b and io.open(a)); return a`
	values, err := eval(t, s, code)
	if err != nil || filepath.Dir(fmt.Sprint(values[0])) != dir {
		t.Errorf("%v, %v", values, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := eval(t, s, code); err == nil || !strings.Contains(err.Error(), "os.tmpname: ") {
		t.Errorf("in a directory that is gone: %v", err)
	}
}

func TestPrint(t *testing.T) {
	var out bytes.Buffer
	s := newState(t, Config{Stdout: &out})
	mustEval(t, s, `print("a", 1, 1.5, nil, setmetatable({}, {__tostring = function() return "T" end})) print()`)
	if got, want := out.String(), "a\t1\t1.5\tnil\tT\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestErrors(t *testing.T) {
	boom := errors.New("boom")
	for _, tc := range []struct {
		name, code, message string
		is                  error
		line                int
	}{
		{"lua", "\nerror('x')", "t.lua:2: x", nil, 2},
		{"go", "\nfail()", "t.lua:2: fail: boom", boom, 2},
		{"go through pcall", "local ok, e = pcall(fail)\nerror(e, 0)", "t.lua:1: fail: boom", boom, 2},
		{"go in a coroutine", "\n\ncoroutine.wrap(function() fail() end)()", "t.lua:3: fail: boom", boom, 3},
		{"go as a coroutine", "\ncoroutine.wrap(fail)()", "t.lua:2: fail: boom", boom, 2},
		{"tail call", "\nreturn fail()", "t.lua:2: fail: boom", boom, 2},
		{"table", "error({})", "(error object is a table value)", nil, 1},
		{"tostring", "error(setmetatable({}, {__tostring = function() return 'T' end}))", "T", nil, 1},
		{"tostring raises", "error(setmetatable({}, {__tostring = function() error('x') end}))", "t.lua:1: x", nil, 1},
		{"nil", "error()", "(error object is a nil value)", nil, 1},
		{"arithmetic", "local x\nreturn x.y", "t.lua:2: attempt to index a nil value (local 'x')", nil, 2},
		{"syntax", "\nx =", "t.lua:2: unexpected symbol near <eof>", nil, 0},
		{"stack overflow", "local function f() return 1 + f() end f()", "stack overflow", nil, 1},
		{"os.exit", "os.exit(1)", "t.lua:1: os.exit", nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newState(t, Config{})
			define(t, s, "fail", func(c *Call) ([]Value, error) {
				return nil, errorsWrap("fail", boom)
			})
			_, err := eval(t, s, tc.code)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(e.Message, tc.message) {
				t.Errorf("message %q, want %q", e.Message, tc.message)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v does not wrap %v", err, tc.is)
			}
			if e.At.Line != tc.line {
				t.Errorf("at %v, want line %d", e.At, tc.line)
			}
			if tc.line > 0 && !strings.Contains(e.Traceback, "t.lua:") {
				t.Errorf("traceback %q", e.Traceback)
			}
		})
	}
}

type wrapped struct {
	text string
	err  error
}

func (w *wrapped) Error() string { return w.text + ": " + w.err.Error() }
func (w *wrapped) Unwrap() error { return w.err }

func errorsWrap(text string, err error) error { return &wrapped{text, err} }
