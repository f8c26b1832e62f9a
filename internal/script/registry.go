package script

import (
	"errors"
	"fmt"
	"time"

	"provium/internal/lua"
	"provium/internal/script/luajson"
	"provium/internal/script/value"
)

// maxNameSize bounds the name of a test, which goes with every event about it.
const maxNameSize = 64 << 10

// equalSource gives the operator ==, which runs __eq where Lua's rules say so.
const equalSource = `return function(a, b) return a == b end`

// openGlobals puts the Lua API into the state.
func (f *file) openGlobals() error {
	s := f.state
	chunk, err := s.LoadString(equalSource, "=equal")
	if err != nil {
		return err
	}
	made, err := s.Call(f.ctx, chunk)
	if err != nil {
		return err
	}
	f.equal = made[0].(*lua.Function)
	f.types = f.newTypes()
	if f.packing, err = f.packFunctions(); err != nil {
		return err
	}
	f.provium = s.NewUserdata(f.types.lab, &rootLab{f})
	co, err := f.coFunctions()
	if err != nil {
		return err
	}
	globals := map[string]lua.Value{
		"provium":    f.provium,
		"json":       luajson.NewLibrary(s),
		"wait_until": s.NewFunction("wait_until", f.luaWaitUntil),
		"parallel":   s.NewFunction("parallel", f.luaParallel),
		"co":         co,
	}
	if f.build == nil { // a fixture has no tests
		globals["test"] = s.NewFunction("test", f.luaTest)
		globals["todo"] = s.NewFunction("todo", f.luaTodo)
	}
	for name, v := range globals {
		if err := s.SetGlobal(name, v); err != nil {
			return err
		}
	}
	return nil
}

// luaTest is test(name, [meta,] fn).
func (f *file) luaTest(c *lua.Call) ([]lua.Value, error) {
	if f.inTest() {
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
	if f.byName[name] != nil {
		return nil, fmt.Errorf("test: duplicate name `%s` in this file", name)
	}
	raw := lua.Value(table)
	if table == nil {
		raw = f.state.NewTable()
	}
	t := &testCase{name: name, fn: fn, meta: meta, raw: raw}
	f.tests, f.byName[name] = append(f.tests, t), t
	return nil, nil
}

// luaTodo is todo(reason?).
func (f *file) luaTodo(c *lua.Call) ([]lua.Value, error) {
	if f.inTest() {
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
	f.todo = &reason
	return nil, nil
}

// setting is a value assigned on provium, and what it means.
type setting struct {
	raw   lua.Value
	limit time.Duration
}

// timeout is provium.timeout; 0 is no limit.
func (f *file) timeout() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.setting.limit
}

// settings are the names that can be assigned on provium.
const settings = "timeout, reset_between_tests"

// assign is provium.<key> = v.
func (f *file) assign(key, v lua.Value) error {
	if key == "reset_between_tests" {
		return f.setReset(v)
	}
	if key != "timeout" {
		return fmt.Errorf("provium: unknown setting %s (valid: %s)", value.FormatKey(key), settings)
	}
	next := setting{raw: v}
	if v != nil {
		limit, err := value.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("provium.timeout: %w", err)
		}
		next.limit = limit
	}
	f.mu.Lock()
	f.setting = next
	e := f.current
	f.mu.Unlock()
	if e != nil {
		e.recheckLimit()
	}
	return nil
}
