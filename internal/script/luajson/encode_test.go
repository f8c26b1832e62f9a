package luajson

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"provium/internal/lua"
	"provium/internal/script/value"
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

// eval returns the value of a Lua expression.
func eval(t testing.TB, s *lua.State, expression string) lua.Value {
	t.Helper()
	f, err := s.LoadString("return "+expression, "=test")
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Call(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func TestEncode(t *testing.T) {
	s := newState(t)
	for in, want := range map[string]string{
		`nil`: `null`, `true`: `true`, `1`: `1`, `-0.0`: `-0.0`, `1.0`: `1.0`, `0.1`: `0.1`, `1e300`: `1e+300`,
		`math.mininteger`:           `-9223372036854775808`,
		`"a\"\\\b\f\n\r\t\0\x7f"`:   "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0000\x7f\"",
		`"\xff\u{e4}"`:              "\"\xffä\"",
		`{}`:                        `{}`,
		`{1, "x", {true}}`:          `[1,"x",[true]]`,
		`{[3] = 1}`:                 `[null,null,1]`,
		`{[0] = 1, 2}`:              `{"0":1,"1":2}`,
		`{b = 1, a = {}, [10] = 2}`: `{"10":2,"a":{},"b":1}`,
	} {
		got, err := Encode(eval(t, s, in))
		if err != nil || got != want {
			t.Errorf("Encode(%s) = %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	s := newState(t)
	for in, want := range map[string]string{
		`0/0`:                          "value is",
		`{a = {math.huge}}`:            "value.a[1] is inf, which JSON cannot hold",
		`{a = {[1] = print}}`:          "value.a[1] is a function, which JSON cannot hold",
		`{[1.5] = 1}`:                  "value has a key of type number",
		`{[true] = 1}`:                 "value has a key of type boolean",
		`{["1"] = 1, [1] = 1, a = 1}`:  "value has the key `1` as integer and as string",
		`{x = {[1000002] = 1}}`:        "value.x is an array with 1000001 gaps (at most 1000000)",
		`{x = {y = {[1] = {0, 0/0}}}}`: "value.x.y[1][2] is",
		`(function() local t = {} t[1] = {x = t} return t end)()`: "value[1].x is a cycle",
		`(function() local t = {} ` +
			`for _ = 1, 1000 do t = {t} end return t end)()`: "nesting deeper than 1000 levels",
		`(function() local t = {} ` +
			`for _ = 1, 2000 do t = {x = t} end return t end)()`: "nesting deeper than 1000 levels",
	} {
		got, err := Encode(eval(t, s, in))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Encode(%s) = %s, %v; want an error with %q", in, got, err, want)
		}
	}
}

func TestEncodeSameTableTwice(t *testing.T) {
	s := newState(t)
	got, err := Encode(eval(t, s, `(function() local t = {1} return {t, t} end)()`))
	if want := `[[1],[1]]`; err != nil || got != want {
		t.Errorf("Encode = %s, %v; want %s", got, err, want)
	}
}

func TestLibrary(t *testing.T) {
	s := newState(t)
	if err := s.SetGlobal("json", NewLibrary(s)); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]lua.Value{
		`json.encode({1, 2})`:                           `[1,2]`,
		`json.decode('{"a":[10,null,30]}').a[3]`:        int64(30),
		`json.decode('{"a":[10,null,30]}').a[2] == nil`: true,
		`next(json.decode('{"a":null}'))`:               nil,
		`json.decode("null")`:                           nil,
		`select(2, pcall(json.decode, 1))`: "=test:1: json.decode: argument 1 must be a string, " +
			"got number",
		`select(2, pcall(json.decode, "["))`: "=test:1: json.decode: unexpected end of text" +
			" at line 1 column 2 (byte 2)",
		`select(2, pcall(json.encode, print))`: "=test:1: json.encode: value is a function," +
			" which JSON cannot hold",
		`json.encode(json.decode(' {"b": 1.0, "a": 1} '))`: `{"a":1,"b":1.0}`,
	} {
		if got := eval(t, s, in); got != want {
			t.Errorf("%s = %v, want %v", in, got, want)
		}
	}
}

// equal reports whether two values, without cycles, have the same structure, types and bits.
func equal(a, b lua.Value) bool {
	switch x := a.(type) {
	case *lua.Table:
		y, ok := b.(*lua.Table)
		return ok && slices.EqualFunc(value.SortedPairs(x), value.SortedPairs(y), func(p, q value.Pair) bool {
			return p.Key == q.Key && equal(p.Value, q.Value)
		})
	case float64:
		y, ok := b.(float64)
		return ok && math.Float64bits(x) == math.Float64bits(y)
	}
	return a == b
}

// FuzzRoundTrip checks that Decode(Encode(x)) is x, for the values x that JSON texts have,
// and that encoding/json accepts the text.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{`[1,2.5,null,"x\u00e4"]`, `{"a":{"b":[true,false]}}`, `18446744073709551615`,
		`1.0`, `-0.0`, `"\u0000\ud83d"`, `[null,null]`, `{"1":1,"a":null}`, "\"\xff\"", `{"":[[],{}]}`, `5e-324`} {
		f.Add(s)
	}
	s := newState(f)
	f.Fuzz(func(t *testing.T, text string) {
		x, err := Decode(s, text)
		if err != nil {
			return
		}
		encoded, err := Encode(x)
		if err != nil {
			if strings.Contains(err.Error(), "nesting deeper") { // by one level
				return
			}
			t.Fatalf("Encode of %q: %v", text, err)
		}
		if !json.Valid([]byte(encoded)) {
			t.Errorf("Encode of %q: %q is invalid", text, encoded)
		}
		y, err := Decode(s, encoded)
		if err != nil {
			t.Fatalf("Decode of %q, made of %q: %v", encoded, text, err)
		}
		if !equal(x, y) {
			t.Errorf("%q became %q, which is another value", text, encoded)
		}
	})
}

// FuzzString checks that every string, which may have any bytes, survives.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a\x00\xff\"\\", "\u2028\U0001f600\x7f", `\ud83d`} {
		f.Add(s)
	}
	s := newState(f)
	f.Fuzz(func(t *testing.T, text string) {
		encoded, err := Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decode(s, encoded); err != nil || got != lua.Value(text) {
			t.Errorf("%q became %q, then %q (%v)", text, encoded, got, err)
		}
	})
}
