package luascan

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// describe is a call in one line.
func describe(t Test) string {
	text := fmt.Sprintf("%d-%d %q", t.First, t.Last, t.Name)
	for _, mark := range []struct {
		is   bool
		text string
	}{{t.Each, "each"}, {!t.MetaKnown, "open"}, {!t.Sure, "unsure"}, {len(t.Meta) > 0, fmt.Sprint(t.Meta)}} {
		if mark.is {
			text += " " + mark.text
		}
	}
	return text
}

func TestTests(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // of each call; a * in front: there may be others
	}{
		"none":   {"local x = 1", ""},
		"plain":  {"test('a', function(t) end)", `1-1 "a"`},
		"lines":  {"\n\ntest('a', function(t)\n  f(1, (2))\nend)\ntest(\"b\",\n print)", `3-5 "a"; 6-7 "b"`},
		"meta":   {`test("a", {tags = {"x", "y"}, slow = true, n = -1}, f)`, `1-1 "a" map[n:{} slow:true tags:[x y]]`},
		"meta 2": {`test("a", {["k 1"] = "v"; m = 0x10, f = 1.5, "x"}, f)`, `1-1 "a" map[f:1.5 k 1:v m:16]`},
		"computed": {`test("a", {tags = T, slow = x and y, deep = {a = 1}, s = "x" .. y}, f)`,
			`1-1 "a" map[deep:{} s:{} slow:{} tags:{}]`},
		"open": {`test("a", meta, f) test("b", {[k] = 1}, f) test("c", {} and x, f)`,
			`1-1 "a" open; 1-1 "b" open; 1-1 "c" open`},
		"name": {`test("a" .. i, f) test(("x"):rep(3), {tags = "t"}, f) test(name, f)`,
			`1-1 ""; 1-1 "" map[tags:t]; 1-1 ""`},
		"each": {`test.each({{1, f = function() return 1, 2 end}, {2}}, "n {1}", {tags = "t"}, f) ` +
			`test.each(list(), name, f)`,
			`1-1 "n {1}" each map[tags:t]; 1-1 "" each`},
		"blocks": {"for i = 1, 2 do test('a', f) end while x do test('b', f) end do test('c', f) end " +
			"if x then test('d', f) end" +
			" local function g() test('e', f) end repeat test('f', f) until x test('g', f)",
			`1-1 "a" unsure; 1-1 "b" unsure; 1-1 "c"; 1-1 "d" unsure; 1-1 "e" unsure; 1-1 "f" unsure; 1-1 "g"`},
		"after return":         {"if x then return end test('a', f)", `1-1 "a" unsure`},
		"return in a function": {"local function f() return 1 end test('a', f)", `1-1 "a"`},
		"within a test": {"test('a', function() test('b', f) load('x') require(x) if y then return end end) " +
			"test('c', f)",
			`1-1 "a"; 1-1 "c"`},
		"other names": {"x.test('a') x:test('b') my_test('c') local s = \"test('d', f)\" -- test('e', f)", ""},
		"alias":       {"local case = test case('a', f)", "*"},
		"argument":    {"helper(test) test('a', f)", `*1-1 "a"`},
		"own":         {"local function test(n, f) end test('a', f)", `*1-1 "a"`},
		"loads":       {"dofile('x') test('a', f)", `*1-1 "a"`},
		"broken":      {"test('a', function(t)\n \"open", `1-2 "a"`},
		"module":      {"require(name)", "*"},
	} {
		file := Tests([]byte(c.text))
		var got []string
		for _, call := range file.Tests {
			got = append(got, describe(call))
		}
		text := strings.Join(got, "; ")
		if !file.Closed {
			text = "*" + text
		}
		if text != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, text, c.want)
		}
	}
	file := Tests([]byte("local a, b = require('x.y'), require \"z\" for i = 1, 2 do test('a', f) end"))
	if want := []string{"x.y", "z"}; !reflect.DeepEqual(file.Modules, want) || file.InFunctions {
		t.Errorf("%+v", file)
	}
	if file := Tests([]byte("function f() test('a', g) end")); !file.InFunctions {
		t.Errorf("%+v", file)
	}
}

func TestRegisters(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "return {test = 1}": true, "return function(n) test(n, f) end": true, "local t = 'test'": false,
		"x.test('a')": false,
	} {
		if got := Registers([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzTests(f *testing.F) {
	f.Add([]byte("test('a', {tags = {'x'}, [k] = 1, slow = true}, function(t) end) test.each({1, {2}}, 'n', f)"))
	f.Add([]byte("for i = 1, 2 do test('a' .. i, {x = {{}}}, f) end require('m') ) end until"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := 1 + strings.Count(string(text), "\n")
		for _, call := range Tests(text).Tests {
			if call.First < 1 || call.Last < call.First || call.Last > lines {
				t.Errorf("lines %d to %d of %d", call.First, call.Last, lines)
			}
		}
	})
}
