package luascan

import (
	"reflect"
	"strings"
	"testing"

	"provium/internal/event"
)

func TestScanFixtures(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"none": {"local x = 1", nil},
		"methods": {`local a = provium:vm_fixture("setups/bare"); local p = lab:lab_fixture('pair')`,
			[]string{"setups/bare", "pair"}},
		"dot, no paren":   {"provium.vm_fixture \"a\"\nprovium:vm_fixture[[b]]", []string{"a", "b"}},
		"second argument": {`provium:vm_fixture("a", {})`, []string{"a"}},
		"in a function":   {`test("x", function(t) if y then provium:vm_fixture("a") end end)`, []string{"a"}},
		"each once":       {`f:vm_fixture("b") f:vm_fixture("a") f:lab_fixture("b")`, []string{"b", "a"}},
		"computed": {
			`f:vm_fixture("a" .. x) f:vm_fixture(name) f:vm_fixture(("a")) f:vm_fixture{} f:vm_fixture("")`, nil},
		"comments": {"-- f:vm_fixture('a')\n--[==[ f:vm_fixture('b') ]] ]==] f:vm_fixture('c') --[[ x",
			[]string{"c"}},
		"strings": {`x = "f:vm_fixture('a')" y = [[f:vm_fixture('b')]] z = 'it\'s' f:vm_fixture('c')`,
			[]string{"c"}},
		"other names":  {`f:my_vm_fixture("a") f:vm_fixtures("b")`, nil},
		"escapes":      {`f:vm_fixture("a\x2fb\047c\u{2f}d\z` + "\n   " + `e")`, []string{"a/b/c/de"}},
		"long bracket": {"f:vm_fixture[==[\r\na]]b]==]", []string{"a]]b"}},
		"shebang":      {"#!f:vm_fixture('a') \"\nf:vm_fixture('b')", []string{"b"}},
		"no Lua":       {"f:vm_fixture('a') \"open\nf:vm_fixture('b')", []string{"a"}},
		"bad escape":   {`f:vm_fixture('a') x = "\q" f:vm_fixture('b')`, []string{"a"}},
		"indices":      {"x = t[1] y = t[ [[k]] ] f:vm_fixture('a')", []string{"a"}},
		"numbers":      {"x = 0x1p-3..'' y = 1e+5 z = .5 f:vm_fixture('a')", []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, claim := Literals([]byte(c.text))
			if claim != nil || got == nil {
				t.Errorf("fixtures %v, claim %v", got, claim)
			}
			if strings.Join(got, ",") != strings.Join(c.want, ",") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestScanProfiles(t *testing.T) {
	_, got, _ := Literals([]byte(`local a, b = provium:vm("a", "host"), lab:vm('b', "other", {cpus = 2})
		provium:vm("c", name) provium:vm("a") f.vm("d", "host") provium:vm("e", "") my_vm("x", "y")`))
	if strings.Join(got, ",") != "host,other" {
		t.Errorf("got %q", got)
	}
}

func TestScanClaim(t *testing.T) {
	amount := func(memory uint64, cpus uint32) *event.Amount { return &event.Amount{MemoryBytes: memory, CPUs: cpus} }
	for name, c := range map[string]struct {
		text string
		want *event.Amount
	}{
		"both":           {`provium:claim({memory = "3G", cpus = 2})`, amount(3<<30, 2)},
		"no parentheses": {`provium:claim{memory = "1.5G"; cpus = 0x4,}`, amount(3<<29, 4)},
		"memory only":    {`provium:claim({["memory"] = 1073741824})`, amount(1<<30, 0)},
		"memory_bytes":   {`provium:claim({memory_bytes = 1048576.0})`, amount(1<<20, 0)},
		"cpus only":      {`provium:claim({cpus = 3})`, amount(0, 3)},
		"after code": {
			"local a = f(1)\nif a then b() end\nfor i = 1, 2 do x() end\nrepeat y() until z\nprovium:claim({cpus = 1})",
			amount(0, 1)},
		"after a test": {
			"test('a', function(t)\n  while true do if x then break end end\nend)\nprovium:claim({cpus = 1})",
			amount(0, 1)},
		"after a comment":   {"--[[ provium:claim({cpus = 9}) ]] provium:claim({cpus = 1}) -- x", amount(0, 1)},
		"after a string":    {`local s = "provium:claim({cpus = 9})" provium:claim({cpus = 1})`, amount(0, 1)},
		"first one":         {"provium:claim({cpus = 1})\nprovium:claim({cpus = 2})", amount(0, 1)},
		"after a label":     {"::top:: provium:claim({cpus = 1})", amount(0, 1)},
		"in a test":         {"test('a', function() provium:claim({cpus = 1}) end)", nil},
		"in a block":        {"do provium:claim({cpus = 1}) end", nil},
		"in a condition":    {"if big then provium:claim({cpus = 1}) end", nil},
		"in a loop":         {"repeat provium:claim({cpus = 1}) until true", nil},
		"in an expression":  {"local x = big and provium:claim({cpus = 1})", nil},
		"in an argument":    {"pcall(provium:claim({cpus = 1}))", nil},
		"of another object": {"x.provium:claim({cpus = 1})", nil},
		"on a sub-lab":      {"provium:lab():claim({cpus = 1})", nil},
		"variable":          {"provium:claim({cpus = n})", nil},
		"sum":               {"provium:claim({cpus = 1 + n})", nil},
		"product":           {"provium:claim({memory = 512 * 1024})", nil},
		"negative":          {"provium:claim({cpus = -1})", nil},
		"zero":              {"provium:claim({cpus = 0})", nil},
		"fraction":          {"provium:claim({cpus = 1.5})", nil},
		"bad size":          {`provium:claim({memory = "3X"})`, nil},
		"bare size":         {`provium:claim({memory = "3"})`, nil},
		"text bytes":        {`provium:claim({memory_bytes = "3G"})`, nil},
		"text cpus":         {`provium:claim({cpus = "1"})`, nil},
		"too many cpus":     {`provium:claim({cpus = 2000000})`, nil},
		"twice":             {`provium:claim({memory = 1, memory_bytes = 1})`, nil},
		"unknown key":       {`provium:claim({cpus = 1, disk = 3})`, nil},
		"empty":             {`provium:claim({})`, nil},
		"array":             {`provium:claim({1, 2})`, nil},
		"computed key":      {`provium:claim({[k] = 1})`, nil},
		"two arguments":     {`provium:claim({cpus = 1}, 2)`, nil},
		"a variable":        {`provium:claim(c)`, nil},
		"cut off":           {`provium:claim({cpus = 1`, nil},
		"cut off behind":    {`provium:claim({cpus = 1}`, nil},
		"another method":    {`provium:boot({cpus = 1})`, nil},
		"malformed number":  {`provium:claim({cpus = 1x})`, nil},
		"overflow":          {`provium:claim({memory = 0x1ffffffffffffffff})`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, got := Literals([]byte(c.text))
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// FuzzScanLiterals checks that any text is scanned to its end, that every token
// moves on, and that a claim is one that could be made.
func FuzzScanLiterals(f *testing.F) {
	for _, seed := range []string{
		"", "#!x\nprovium:claim({memory = \"3G\", cpus = 2})",
		"f:vm_fixture[==[\na]==] --[[ x ]] 'a\\z  b\\x41\\u{41}\\065'",
		"provium:claim{[\"cpus\"]=0x1;memory=1e9}", "\"\\", "\"\\u{", "[==", "--[=", "0x", "1e+", "'\\1",
		"provium:claim({",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := newLexer(text)
		for at := -1; ; at = l.at {
			tok := l.next()
			if l.at > len(text) {
				t.Fatalf("at %d of %d", l.at, len(text))
			}
			if tok.kind == tokenEnd {
				if l.at != len(text) {
					t.Fatalf("end at %d of %d", l.at, len(text))
				}
				break
			}
			if l.at <= at {
				t.Fatalf("no progress at %d", at)
			}
		}
		fixtures, _, claim := Literals(text)
		for _, name := range fixtures {
			if name == "" {
				t.Error("empty fixture name")
			}
		}
		if claim != nil && (*claim == event.Amount{} || claim.MemoryBytes > 1<<63 || claim.CPUs > maxClaimCPUs) {
			t.Errorf("claim %+v", claim)
		}
	})
}

func TestUsesOf(t *testing.T) {
	u := UsesOf([]byte(`
local a, b = require("one.two"), require 'three'
-- require("comment")
test("x", function(t)
  vm:push_file("../bin/x", "/x") vm:push_file(name, "/y") vm:push_file "z"
  for line in io.lines("list") do end
  dofile("a.lua") loadfile("b.lua") require(name .. "x")
end)`))
	want := Uses{Modules: []string{"one.two", "three"}, Pushed: []string{"../bin/x", "z"},
		Read: []string{"list", "a.lua", "b.lua"}}
	if !reflect.DeepEqual(u, want) {
		t.Errorf("%+v", u)
	}
}
