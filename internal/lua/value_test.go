package lua

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestValueRoundTrip(t *testing.T) {
	s := newState(t, Config{})
	id := mustEval(t, s, "return function(...) return ... end")[0]
	long := strings.Repeat("\x00long\xff", 10000)
	for _, tc := range []struct{ in, out Value }{
		{nil, nil}, {true, true}, {false, false},
		{int64(math.MaxInt64), int64(math.MaxInt64)}, {int64(math.MinInt64), int64(math.MinInt64)},
		{1.0, 1.0}, {math.Inf(-1), math.Inf(-1)}, {float32(0.5), 0.5},
		{"", ""}, {"a\x00b", "a\x00b"}, {long, long}, {[]byte("x"), "x"}, {[]byte(nil), ""}, {[]byte(long), long},
		{7, int64(7)}, {uint8(7), int64(7)}, {int32(-7), int64(-7)}, {uint64(7), int64(7)},
	} {
		got, err := s.Call(context.Background(), id, tc.in, tc.in)
		if err != nil || len(got) != 2 || got[0] != tc.out || got[1] != tc.out {
			t.Errorf("%T %.20v: got %.60v, %v", tc.in, tc.in, got, err)
		}
	}
	for _, bad := range []Value{uint64(math.MaxUint64), uint(math.MaxUint64), struct{}{}, []int{1}, map[string]int{}} {
		if got, err := s.Call(context.Background(), id, long, bad); err == nil {
			t.Errorf("%T: got %v", bad, got)
		}
		if err := s.SetGlobal("x", bad); err == nil || !strings.Contains(err.Error(), "lua value") {
			t.Errorf("%T as global: got %v", bad, err)
		}
	}
	nan := math.NaN()
	if got, err := s.Call(context.Background(), id, nan); err != nil || got[0] == got[0] {
		t.Errorf("NaN: got %v, %v", got, err)
	}
	if got := mustEval(t, s, "return math.type((...))", 1); got[0] != "integer" {
		t.Errorf("got %v", got)
	}
	many := make([]Value, 5000)
	for i := range many {
		many[i] = i
	}
	if got, err := s.Call(context.Background(), id, many...); err != nil || len(got) != len(many) ||
		got[4999] != int64(4999) {
		t.Errorf("many: %d, %v", len(got), err)
	}
}

func TestReferences(t *testing.T) {
	s := newState(t, Config{})
	got := mustEval(t, s, `
		local t = {}
		return t, t, {}, print, coroutine.create(print), io.stdout, io.stdout`)
	if !same(t, s, got[0], got[1]) || same(t, s, got[0], got[2]) || same(t, s, got[0], got[3]) ||
		!same(t, s, got[5], got[6]) {
		t.Error("identity is wrong")
	}
	for i, want := range []string{"table", "table", "table", "function", "thread", "userdata", "userdata"} {
		if n := TypeName(got[i]); n != want {
			t.Errorf("value %d: got %s, want %s", i, n, want)
		}
	}
	back := mustEval(t, s, "local a, b, c, d = ... return a == b, d == io.stdout, coroutine.status(c)", got[0], got[1],
		got[4], got[5])
	if back[0] != true || back[1] != true || back[2] != "suspended" {
		t.Errorf("got %v", back)
	}
	other := newState(t, Config{})
	if _, err := eval(t, other, "return", got[0]); err == nil || !strings.Contains(err.Error(), "another state") {
		t.Errorf("got %v", err)
	}
}

func TestTable(t *testing.T) {
	s := newState(t, Config{})
	tbl := s.NewTable()
	for _, kv := range [][2]Value{{"a", 1}, {1, "one"}, {2.5, true}, {true, "t"}, {2, "two"}, {"gone", 1},
		{"gone", nil}} {
		if err := tbl.Set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tbl.Append("three"); err != nil {
		t.Fatal(err)
	}
	if n := tbl.Len(); n != 3 {
		t.Errorf("length %d", n)
	}
	got := map[Value]Value{}
	for k, v := range tbl.All() {
		got[k] = v
	}
	want := map[Value]Value{"a": int64(1), int64(1): "one", 2.5: true, true: "t", int64(2): "two", int64(3): "three"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if tbl.Get("none") != nil || tbl.Get(nil) != nil || tbl.Get("a") != int64(1) || tbl.Get(1.0) != "one" {
		t.Error("get is wrong")
	}
	for _, key := range []Value{nil, math.NaN(), struct{}{}} {
		if err := tbl.Set(key, 1); err == nil {
			t.Errorf("key %v accepted", key)
		}
	}
	mt := s.NewTable()
	if err := mt.Set("__index", GoFunc(func(c *Call) ([]Value, error) { return []Value{c.Arg(2)}, nil })); err != nil {
		t.Fatal(err)
	}
	mustEval(t, s, "setmetatable(...)", tbl, mt)
	if got := mustEval(t, s, "return (...).other", tbl); got[0] != "other" {
		t.Errorf("got %v", got)
	}
	if tbl.Get("other") != nil {
		t.Error("access is not raw")
	}
	if tbl.Pointer() == mt.Pointer() || tbl.Pointer() != mustEval(t, s, "return ...", tbl)[0].(*Table).Pointer() {
		t.Error("pointer is wrong")
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("", int64(0), 0.0, false)
	f.Add("a\x00\xff", int64(math.MinInt64), math.NaN(), true)
	f.Add(strings.Repeat("x", 2*inlineMax), int64(1), math.Inf(1), true)
	s, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	fn, err := s.LoadString("local t = table.pack(...) return table.unpack(t, 1, t.n)", "t.lua")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, str string, i int64, fl float64, b bool) {
		in := []Value{str, i, fl, b, nil, str}
		out, err := s.Call(context.Background(), fn, in...)
		if err != nil || len(out) != len(in) {
			t.Fatalf("got %v, %v", out, err)
		}
		for k := range in {
			a, isFloat := in[k].(float64)
			if isFloat && math.Float64bits(a) == math.Float64bits(out[k].(float64)) {
				continue
			}
			if in[k] != out[k] {
				t.Errorf("%v became %v", in[k], out[k])
			}
		}
		tbl := s.NewTable()
		if err := tbl.Set(str, i); err != nil || tbl.Get(str) != i {
			t.Errorf("table: %v, %v", tbl.Get(str), err)
		}
	})
}

// FuzzLoadString compares with the function load.
func FuzzLoadString(f *testing.F) {
	for _, code := range []string{"", "return 1", "x =", "\x1bLua", "#!x", "goto a ::a::", "local x <const> = 1 x = 2",
		"[==[", "'\\u{7fffffff}'", strings.Repeat("(", 300)} {
		f.Add(code)
	}
	s := newState(f, Config{})
	f.Fuzz(func(t *testing.T, code string) {
		fn, err := s.LoadString(code, "fuzz.lua")
		if (fn == nil) == (err == nil) {
			t.Fatalf("got %v, %v", fn, err)
		}
		lua := mustEval(t, s, "return load(..., '@fuzz.lua', 't')", code)
		if (fn == nil) != (lua[0] == nil) {
			t.Fatalf("LoadString(%q): %v, but load returns %v", code, err, lua)
		}
		if fn == nil && err.Error() != lua[1] {
			t.Errorf("LoadString(%q): %v, but load says %v", code, err, lua[1])
		}
	})
}
