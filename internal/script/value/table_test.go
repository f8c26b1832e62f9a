package value

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"provium/internal/lua"
)

func TestSortedPairs(t *testing.T) {
	s := newState(t)
	table := eval(t, s, `{b = 1, a = 2, [10] = 3, [-1] = 4, [2.5] = 5, [0.5] = 6, [true] = 7, [false] = 8, "x"}`)
	var keys []string
	for _, p := range SortedPairs(table.(*lua.Table)) {
		keys = append(keys, Format(p.Key))
	}
	if got, want := strings.Join(keys, " "), "-1 1 10 0.5 2.5 a b false true"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
}

func TestSequence(t *testing.T) {
	s := newState(t)
	for in, want := range map[string]string{
		`{}`: "[] <nil>", `{"a", "b"}`: "[a b] <nil>",
		`{"a", nil, "b"}`: "[] must be an array without holes: entry 2 is missing",
		`{[0] = "a"}`:     "[] must be an array, it has the key 0",
		`{"a", x = 1}`:    "[] must be an array, it has the key `x`",
		`{"a", 2}`:        "[] must be an array of strings, entry 2 is number",
	} {
		table := eval(t, s, in).(*lua.Table)
		list, err := Strings(table)
		if got := fmt.Sprint(list, " ", err); got != want {
			t.Errorf("Strings(%s) = %s, want %s", in, got, want)
		}
		if got, want := IsSequence(SortedPairs(table)), err == nil || in == `{"a", 2}`; got != want {
			t.Errorf("IsSequence(%s) = %v", in, got)
		}
	}
}

func TestFieldPath(t *testing.T) {
	path := ""
	for _, k := range []lua.Value{"a", int64(3), "x y", "end", "_b1", 1.5, true, "1c", ""} {
		path = FieldPath(path, k)
	}
	if want := `a[3]["x y"]["end"]._b1[1.5][true]["1c"][""]`; path != want {
		t.Errorf("path %s, want %s", path, want)
	}
}

func TestFormatKey(t *testing.T) {
	for in, want := range map[lua.Value]string{
		"a\n": "`a\\n`", int64(3): "3", strings.Repeat("x", 70): "`" + strings.Repeat("x", 60) + "... (70 bytes)`",
	} {
		if got := FormatKey(in); got != want {
			t.Errorf("FormatKey(%v) = %s, want %s", in, got, want)
		}
	}
}

func TestArray(t *testing.T) {
	s := newState(t)
	table := Array(s, []int{1, 0, 3}, func(n int) lua.Value {
		if n == 0 {
			return nil
		}
		return n
	})
	if table.Get(int64(1)) != int64(1) || table.Get(int64(2)) != nil || table.Get(int64(3)) != int64(3) {
		t.Errorf("Array = %v", SortedPairs(table))
	}
	defer func() {
		if recover() == nil {
			t.Error("MustSet with the key NaN did not panic")
		}
	}()
	MustSet(table, math.NaN(), 1)
}

func TestRender(t *testing.T) {
	s := newState(t)
	leaf := func(v lua.Value) string { return "<" + Format(v) + ">" }
	for in, want := range map[string]string{
		`1`:                            "<1>",
		`"a\n"`:                        `"a\n"`,
		`{}`:                           "{}",
		`{1, "x", [5] = 2}`:            "{\n  <1>,\n  \"x\",\n  [5] = <2>,\n}",
		`{a = {b = {}}, ["c d"]=true}`: "{\n  a = {\n    b = {},\n  },\n  [\"c d\"] = <true>,\n}",
		`{[1.5] = 1, [false] = 2}`:     "{\n  [<1.5>] = <1>,\n  [<false>] = <2>,\n}",
		`(function() local t = {} t.a = {t} t.b = t.a return t end)()`: "{\n" +
			"  a = {\n    <cycle to the outermost table>,\n  },\n" +
			"  b = {\n    <cycle to the outermost table>,\n  },\n}",
		`(function() local t = {} t.x = t return {y = t} end)()`: "{\n  y = {\n    x = <cycle to y>,\n  },\n}",
	} {
		if got := Render(eval(t, s, in), leaf); got != want {
			t.Errorf("Render(%s) =\n%s\nwant\n%s", in, got, want)
		}
	}
}

func TestRenderLimits(t *testing.T) {
	s := newState(t)
	wide := eval(t, s, `(function() local t = {} for i = 1, 5000 do t[i] = i end return t end)()`)
	long := strings.Split(Render(wide, Format), "\n")
	if len(long) != renderMaxLines+3 || long[renderMaxLines+1] != "  ... (3000 more entries)" {
		t.Errorf("%d lines, to %q", len(long), long[len(long)-2:])
	}
	deep := Render(eval(t, s, `(function() local t = {} for i = 1, 50 do t = {t} end return t end)()`), Format)
	if got := strings.Count(deep, "\n"); got != 2*renderMaxDepth || !strings.Contains(deep, "{...},") {
		t.Errorf("%d newlines in\n%s", got, deep)
	}
}

// FuzzIsName compares with Lua's own parser.
func FuzzIsName(f *testing.F) {
	others := []string{"a", "_", "a1", "1a", "1", "", "ä", "a b", "_ENV", "\x00", "0x1"}
	for _, s := range append(others, luaWords...) {
		f.Add(s)
	}
	s := newState(f)
	f.Fuzz(func(t *testing.T, word string) {
		if strings.Trim(word, "_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			if IsName(word) {
				t.Errorf("IsName(%q) = true", word)
			}
			return // a parser may take it for several words
		}
		_, err := s.LoadString("return {"+word+" = 1}", "=test")
		if IsName(word) != (err == nil) {
			t.Errorf("IsName(%q) = %v, but the parser says %v", word, IsName(word), err)
		}
	})
}
