package value

import (
	"errors"
	"strings"
	"testing"
	"time"

	"provium/internal/lua"
)

func newState(t testing.TB) *lua.State {
	t.Helper()
	s, err := lua.New(lua.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// eval returns the value of a Lua expression, nil when it has none.
func eval(t testing.TB, s *lua.State, expression string) lua.Value {
	t.Helper()
	f, err := s.LoadString("return ("+expression+")", "=test")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Call(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// called returns what read returns in a call of the method x:f with the arguments in list.
func called(t *testing.T, s *lua.State, list string, read func(Args) (any, error)) (got any, err error) {
	t.Helper()
	f := s.NewFunction("f", func(c *lua.Call) ([]lua.Value, error) {
		got, err = read(MethodArgs(c, "x:f"))
		return nil, nil
	})
	if err := s.SetGlobal("f", f); err != nil {
		t.Fatal(err)
	}
	eval(t, s, "f("+strings.TrimSuffix("nil, "+list, ", ")+")")
	return got, err
}

// check compares a result with what is wanted: a value, or an error with a text.
func check(t *testing.T, in string, got any, err error, want any) {
	t.Helper()
	if text, ok := want.(error); ok {
		if err == nil || err.Error() != text.Error() {
			t.Errorf("%s: got %v, %v; want the error %q", in, got, err, text)
		}
	} else if err != nil || got != want {
		t.Errorf("%s: got %v, %v; want %v", in, got, err, want)
	}
}

func TestArgs(t *testing.T) {
	s := newState(t)
	str := func(a Args) (any, error) { return a.Str(2, "data") }
	path := func(a Args) (any, error) { return a.Path(1, "path") }
	duration := func(a Args) (any, error) { return a.Duration(1, "limit", time.Minute) }
	function := func(a Args) (any, error) {
		f, err := a.Function(1, "fn")
		return f != nil, err
	}
	for _, c := range []struct {
		list string
		read func(Args) (any, error)
		want any
	}{
		{`"a", "b\0"`, str, "b\x00"},
		{`"a"`, str, errors.New("x:f: argument 2 (data) must be a string, got nil")},
		{`"a", 1`, str, errors.New("x:f: argument 2 (data) must be a string, got number")},
		{`"/x"`, path, "/x"},
		{`{}`, path, errors.New("x:f: argument 1 (path) must be a string, got table")},
		{`""`, path, errors.New("x:f: argument 1 (path) must not be empty")},
		{`"a\0b"`, path, errors.New(`x:f: argument 1 (path) holds a NUL byte: "a\x00b"`)},
		{`print`, function, true},
		{``, function, errors.New("x:f: argument 1 (fn) must be a function, got nil")},
		{``, duration, time.Minute},
		{`"2s"`, duration, 2 * time.Second},
		{`-1`, duration, errors.New("x:f: argument 1 (limit): duration: must be a finite, non-negative number")},
		{`1, nil`, func(a Args) (any, error) { return a.Len(), nil }, 2},
	} {
		got, err := called(t, s, c.list, c.read)
		check(t, c.list, got, err, c.want)
	}
}

func TestFunctionArgs(t *testing.T) {
	s := newState(t)
	var a Args
	err := s.SetGlobal("f", s.NewFunction("f", func(c *lua.Call) ([]lua.Value, error) {
		a = FunctionArgs(c, "f")
		return Results(nil, "one", int64(2))
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := eval(t, s, `select("#", f(1))`); got != int64(2) {
		t.Errorf("%v results", got)
	}
	if a.Len() != 1 || a.Value(1) != int64(1) || a.Value(2) != nil {
		t.Errorf("arguments %v", a.Values)
	}
	if out, err := Results(errors.New("x"), "one"); out != nil || err == nil {
		t.Errorf("Results of an error = %v, %v", out, err)
	}
}

func TestArgsOptions(t *testing.T) {
	s := newState(t)
	for list, want := range map[string]any{
		``:                false,
		`{}`:              false,
		`{level = 1}`:     true,
		`"x"`:             errors.New("vm:dmesg: argument 1 (opts) must be a table, got string"),
		`{mod = 1}`:       errors.New("vm:dmesg: unknown option `mod` (valid: level, since)"),
		`{[1] = "level"}`: errors.New("vm:dmesg: unknown option 1 (valid: level, since)"),
		`{["a\nb"] = {}}`: errors.New("vm:dmesg: unknown option `a\\nb` (valid: level, since)"),
	} {
		got, err := called(t, s, list, func(a Args) (any, error) {
			a.Func = "vm:dmesg"
			o, err := a.Options(1)
			return o.Has("level"), err
		})
		check(t, list, got, err, want)
	}
}
