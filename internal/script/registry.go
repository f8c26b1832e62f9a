package script

import (
	"fmt"
	"time"

	"provium/internal/lua"
	"provium/internal/script/luajson"
	"provium/internal/script/value"
)

// equalSource gives the operator ==, which runs __eq where Lua's rules say so.
const equalSource = `return function(a, b) return a == b end`

// openGlobals puts the Lua API into the state, and the functions more.
func (f *file) openGlobals(more map[string]lua.GoFunc) error {
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
	for name, fn := range more {
		globals[name] = s.NewFunction(name, fn)
	}
	for name, v := range globals {
		if err := s.SetGlobal(name, v); err != nil {
			return err
		}
	}
	return nil
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
