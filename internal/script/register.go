package script

import (
	"errors"
	"fmt"
	"strings"

	"provium/internal/lua"
	"provium/internal/script/binding"
	"provium/internal/script/value"
)

// maxNameSize bounds the name of a test, which goes with every event about it.
const maxNameSize = 64 << 10

// newTestGlobal returns the global `test`, which is called, and has test.each.
func (r *testRun) newTestGlobal() *lua.Userdata {
	each := r.state.NewFunction("test.each", r.luaEach)
	return r.state.NewUserdata(&lua.Type{
		Name:   "test",
		Fields: []string{"each"},
		Index: func(_ *lua.Call, _ any, key lua.Value) (lua.Value, bool, error) {
			return each, key == "each", nil
		},
		Meta: map[string]lua.GoFunc{"__call": func(c *lua.Call) ([]lua.Value, error) {
			return nil, r.luaTest(value.MethodArgs(c, "test"))
		}},
	}, r)
}

// registration is what test and test.each have in common: a name, metadata and a function.
type registration struct {
	name string
	meta Meta
	raw  lua.Value // the author's table
	fn   *lua.Function
}

// parse reads [meta,] fn behind the name, which is argument i.
func (r *testRun) parse(a value.Args, i int) (reg registration, err error) {
	name, ok := a.Value(i).(string)
	switch {
	case !ok:
		return reg, fmt.Errorf("the name must be a string, got %s", lua.TypeName(a.Value(i)))
	case name == "":
		return reg, errors.New("the name must not be empty")
	case len(name) > maxNameSize:
		return reg, fmt.Errorf("the name has %d bytes (at most %d)", len(name), maxNameSize)
	}
	var table *lua.Table
	last := i + 1
	if _, isFn := a.Value(last).(*lua.Function); !isFn || a.Len() > last {
		switch t := a.Value(last).(type) {
		case *lua.Table:
			table = t
		case nil:
			if a.Len() <= last {
				return reg, errors.New("the function is missing")
			}
		default:
			return reg, fmt.Errorf("meta must be a table, got %s", lua.TypeName(t))
		}
		last++
	}
	fn, ok := a.Value(last).(*lua.Function)
	if !ok {
		return reg, fmt.Errorf("the last argument must be a function, got %s", lua.TypeName(a.Value(last)))
	}
	reg = registration{name: name, fn: fn, raw: table}
	if reg.meta, err = parseMeta(table); err != nil {
		return reg, err
	}
	if table == nil {
		reg.raw = r.state.NewTable()
	}
	return reg, nil
}

// luaTest is test(name, [meta,] fn).
func (r *testRun) luaTest(a value.Args) error {
	if r.inTest() {
		return errors.New("test: cannot register a test inside a test body (call it at file scope)")
	}
	reg, err := r.parse(a, 1)
	if err != nil {
		return fmt.Errorf("test(name, [meta,] fn): bad arguments: %w", err)
	}
	return r.add("test", &testCase{name: reg.name, fn: reg.fn, meta: reg.meta, raw: reg.raw,
		lines: r.linesOf(a.Call, reg.fn)})
}

// linesOf returns where a test stands in the file: its function, the call that registers it,
// and calls of functions that led there.
func (r *testRun) linesOf(c *lua.Call, fn *lua.Function) []Lines {
	var lines []Lines
	var outermost int
	for _, p := range c.Callers() {
		if p.Source == r.path {
			lines = append(lines, Lines{p.Line, p.Line})
			outermost = p.Line
		}
	}
	info, err := c.Call(r.t.info, fn, "S")
	if err != nil {
		return lines
	}
	table, ok := info[0].(*lua.Table)
	if !ok || table.Get("source") != lua.Value("@"+r.path) {
		return lines
	}
	first, _ := table.Get("linedefined").(int64)
	last, _ := table.Get("lastlinedefined").(int64)
	body := Lines{int(first), int(last)}
	if outermost > 0 && outermost < body.First {
		body.First = outermost
	}
	return append(lines, body)
}

// add registers a test.
func (r *testRun) add(what string, t *testCase) error {
	if r.byName[t.name] != nil {
		return fmt.Errorf("%s: duplicate name `%s` in this file", what, t.name)
	}
	r.tests, r.byName[t.name] = append(r.tests, t), t
	r.bodies = append(r.bodies, t.fn)
	return nil
}

// luaEach is test.each(cases, name, [meta,] fn): a test for each case, whose function gets
// the case behind t.
func (r *testRun) luaEach(c *lua.Call) ([]lua.Value, error) {
	a := value.FunctionArgs(c, "test.each")
	if r.inTest() {
		return nil, a.Errorf("cannot register tests inside a test body (call it at file scope)")
	}
	bad := func(err error) ([]lua.Value, error) {
		return nil, fmt.Errorf("test.each(cases, name, [meta,] fn): bad arguments: %w", err)
	}
	table, ok := a.Value(1).(*lua.Table)
	if !ok {
		return bad(fmt.Errorf("cases must be a table, got %s", lua.TypeName(a.Value(1))))
	}
	cases := value.SortedPairs(table)
	if len(cases) == 0 {
		return bad(errors.New("there are no cases"))
	}
	reg, err := r.parse(a, 2)
	if err != nil {
		return bad(err)
	}
	isList, lines := value.IsSequence(cases), r.linesOf(c, reg.fn)
	for _, p := range cases {
		if !isList {
			if _, ok := p.Key.(string); !ok {
				return bad(fmt.Errorf("cases must be an array without holes, or a table with names as keys; it has "+
					"the key %s", value.FormatKey(p.Key)))
			}
		}
		name, err := caseName(c, reg.name, p)
		if err != nil {
			return bad(err)
		}
		t := &testCase{name: name, group: reg.name, fn: reg.fn, meta: reg.meta, raw: reg.raw, lines: lines,
			values: []lua.Value{p.Value}}
		if err := r.add("test.each", t); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// caseName returns the name of one test of test.each: {key} in the name stands for a field of
// the case, {} for the case itself, or for its key. Where the name has neither, the case
// stands behind it.
func caseName(c *lua.Call, name string, p value.Pair) (string, error) {
	var b strings.Builder
	replaced := false
	for rest := name; ; {
		before, after, found := strings.Cut(rest, "{")
		key, behind, closed := strings.Cut(after, "}")
		b.WriteString(before)
		if !found {
			break
		}
		if !closed || key != "" && !isFieldName(key) {
			b.WriteByte('{')
			rest = after
			continue
		}
		text, err := caseField(c, p, key)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
		replaced = true
		rest = behind
	}
	if !replaced {
		text, _ := caseField(c, p, "")
		b.WriteString(" [" + text + "]")
	}
	if b.Len() > maxNameSize {
		return "", fmt.Errorf("the name of a case has %d bytes (at most %d)", b.Len(), maxNameSize)
	}
	return b.String(), nil
}

// isFieldName reports whether a text between braces names a field.
func isFieldName(s string) bool { return value.IsName(s) || strings.Trim(s, "0123456789") == "" }

// caseField returns a field of a case as text; "" is the case itself.
func caseField(c *lua.Call, p value.Pair, key string) (string, error) {
	table, isTable := p.Value.(*lua.Table)
	if key == "" {
		if label, ok := p.Key.(string); ok {
			return label, nil
		}
		if isTable {
			return value.Format(p.Key), nil
		}
		return binding.String(c, p.Value), nil
	}
	if !isTable {
		return "", fmt.Errorf("the name has {%s}, and case %s is no table but a %s", key, value.FormatKey(p.Key),
			lua.TypeName(p.Value))
	}
	field := table.Get(key)
	if field == nil {
		if n, ok := fieldNumber(key); ok {
			field = table.Get(n)
		}
	}
	if field == nil {
		return "", fmt.Errorf("the name has {%s}, which case %s does not have", key, value.FormatKey(p.Key))
	}
	return binding.String(c, field), nil
}

// fieldNumber reads the number of an entry.
func fieldNumber(s string) (n int64, ok bool) {
	for _, digit := range []byte(s) {
		if digit < '0' || digit > '9' || n > 1<<32 {
			return 0, false
		}
		n = n*10 + int64(digit-'0')
	}
	return n, true
}

// luaTodo is todo(reason?).
func (r *testRun) luaTodo(c *lua.Call) ([]lua.Value, error) {
	if r.inTest() {
		return nil, errors.New("todo: cannot be called inside a test body (call it at file scope)")
	}
	reason := "todo"
	switch v := c.Arg(1).(type) {
	case nil:
	case string:
		reason = v
	default:
		return nil, fmt.Errorf("todo: argument 1 (reason) must be a string, got %s", lua.TypeName(v))
	}
	r.todo = &reason
	return nil, nil
}
