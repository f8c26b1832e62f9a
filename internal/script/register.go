package script

import (
	"errors"
	"fmt"

	"provium/internal/lua"
)

// maxNameSize bounds the name of a test, which goes with every event about it.
const maxNameSize = 64 << 10

// luaTest is test(name, [meta,] fn).
func (r *testRun) luaTest(c *lua.Call) ([]lua.Value, error) {
	if r.inTest() {
		return nil, errors.New("test: cannot register a test inside a test body (call it at file scope)")
	}
	bad := func(format string, values ...any) ([]lua.Value, error) {
		return nil, fmt.Errorf("test(name, [meta,] fn): bad arguments: "+format, values...)
	}
	name, ok := c.Arg(1).(string)
	if !ok || name == "" {
		if ok {
			return bad("the name must not be empty")
		}
		return bad("the name must be a string, got %s", lua.TypeName(c.Arg(1)))
	}
	if len(name) > maxNameSize {
		return bad("the name has %d bytes (at most %d)", len(name), maxNameSize)
	}
	var table *lua.Table
	last := 2
	if _, isFn := c.Arg(2).(*lua.Function); !isFn || c.NArgs() > 2 {
		last = 3
		switch t := c.Arg(2).(type) {
		case *lua.Table:
			table = t
		case nil:
			if c.NArgs() < 3 {
				return bad("the function is missing")
			}
		default:
			return bad("meta must be a table, got %s", lua.TypeName(c.Arg(2)))
		}
	}
	fn, ok := c.Arg(last).(*lua.Function)
	if !ok {
		return bad("the last argument must be a function, got %s", lua.TypeName(c.Arg(last)))
	}
	meta, err := parseMeta(table)
	if err != nil {
		return bad("%w", err)
	}
	if r.byName[name] != nil {
		return nil, fmt.Errorf("test: duplicate name `%s` in this file", name)
	}
	raw := lua.Value(table)
	if table == nil {
		raw = r.state.NewTable()
	}
	t := &testCase{name: name, fn: fn, meta: meta, raw: raw}
	r.tests, r.byName[name] = append(r.tests, t), t
	r.bodies = append(r.bodies, fn)
	return nil, nil
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
