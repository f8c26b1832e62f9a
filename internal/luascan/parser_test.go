package luascan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// show writes a tree, so that tests can compare it.
func show(v any) string {
	list := func(all []Expr) string {
		var parts []string
		for _, e := range all {
			parts = append(parts, show(e))
		}
		return strings.Join(parts, " ")
	}
	block := func(b *Block) string {
		var parts []string
		for _, s := range b.Stmts {
			parts = append(parts, show(s))
		}
		return "[" + strings.Join(parts, "; ") + "]"
	}
	names := func(all []*Name) string {
		var parts []string
		for _, n := range all {
			parts = append(parts, n.Name)
		}
		return strings.Join(parts, " ")
	}
	switch v := v.(type) {
	case *Name:
		return v.Name
	case *String:
		return fmt.Sprintf("%q", v.Value)
	case *Literal:
		return v.Text
	case *Function:
		return "fn(" + names(v.Params) + ")" + block(v.Body)
	case *Table:
		var parts []string
		for _, e := range v.Entries {
			if e.Key != nil {
				parts = append(parts, show(e.Key)+"="+show(e.Value))
			} else {
				parts = append(parts, show(e.Value))
			}
		}
		return "{" + strings.Join(parts, " ") + "}"
	case *Call:
		if v.Method != "" {
			return fmt.Sprintf("%s:%s(%s)@%d", show(v.Fn), v.Method, list(v.Args), v.Line)
		}
		return show(v.Fn) + "(" + list(v.Args) + ")"
	case *Index:
		return show(v.Object) + "." + show(v.Key)
	case *Op:
		return "<" + v.Op + " " + list(v.Operands) + ">"
	case *Local:
		return "local " + names(v.Names) + " = " + list(v.Values)
	case *LocalFunction:
		return "local " + v.Name.Name + " = " + show(v.Function)
	case *Assign:
		return list(v.Targets) + " = " + list(v.Values)
	case *CallStmt:
		return show(v.Call)
	case *Group:
		var parts []string
		for _, b := range v.Blocks {
			parts = append(parts, block(b))
		}
		return "group(" + list(v.Conditions) + ")" + strings.Join(parts, "")
	case *NumericFor:
		return "for " + v.Var.Name + " = " + list(v.Exps) + block(v.Body)
	case *GenericFor:
		return "for " + names(v.Vars) + " in " + list(v.Exps) + block(v.Body)
	case *Return:
		return "return " + list(v.Values)
	}
	return fmt.Sprintf("%T", v)
}

func TestParse(t *testing.T) {
	for source, want := range map[string]string{
		"":                            "",
		"#!x\n;":                      "",
		`local a <const>, b = 1, "x"`: `local a b = 1 "x"`,
		"local vm = provium:vm('a',\n'h')\n:boot()": `local vm = provium:vm("a" "h")@1:boot()@3`,
		"f{1, a = 2, ['b'] = 3; g()}":               `f({1 "a"=2 "b"=3 g()})`,
		"f'x' f[[y]]":                               `f("x"); f("y")`,
		"a.b.c, d[1] = nil":                         `a."b"."c" d.1 = nil`,
		"function a.b:c(x, ...) return x end":       `a."b"."c" = fn(self x)[return x]`,
		"local function f() f() end":                `local f = fn()[f()]`,
		"if a then b() elseif c then else d() end":  `group(a c)[b()][][d()]`,
		"while not a do break end":                  "group(<not a>)[]",
		"repeat local x = 1 until x == 2":           "group(<== x 2>)[local x = 1]",
		"for i = 1, #t do end":                      "for i = 1 <# t>[]",
		"for k, v in pairs(t) do goto c ::c:: end":  "for k v in pairs(t)[]",
		"return (a or b)[1], -2 ^ 2 .. 'x', ...":    `return <( <or a b>>.1 <^ <- 2> 2 "x"> ...`,
		"do local a = 1 // 2 end return":            "group()[local a = <// 1 2>]; return ",
		"a = function() return end":                 "a = fn()[return ]",
		"x = 0x10 < 3 and 1e3":                      "x = << 0x10 3 1e3>",
	} {
		b, err := Parse([]byte(source))
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got := strings.TrimSuffix(strings.TrimPrefix(show(&Group{Blocks: []*Block{b}}), "group()["), "]")
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", source, got, want)
		}
	}
	for _, source := range []string{"a", "a =", "local", "f(", "if a then", "end", "return 1 2", "x = {1", "goto 1",
		"a.1", "local function() end", "for a do end", "x = 'a", strings.Repeat("(", 300), strings.Repeat("do ", 300)} {
		if _, err := Parse([]byte(source)); !errors.Is(err, ErrSyntax) {
			t.Errorf("%.40s: %v", source, err)
		}
	}
}

// seeds adds the Lua files of the tree.
func seeds(f *testing.F) {
	for _, pattern := range []string{"../../tests/*.lua", "../../examples/*.lua", "../../tests/setups/*.lua"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
}

// A text is read to its end, whatever it has.
func FuzzParse(f *testing.F) {
	seeds(f)
	f.Add("a = {[")
	f.Add("f(function")
	f.Fuzz(func(t *testing.T, text string) {
		if b, err := Parse([]byte(text)); (b == nil) == (err == nil) {
			t.Errorf("%v, %v", b, err)
		}
	})
}
