package script

import (
	"provium/internal/lua"
	"provium/internal/script/api"
	"provium/internal/script/luajson"
)

// equalSource returns the operator ==, which runs __eq where Lua's rules say so.
const equalSource = `return function(a, b) return a == b end`

// openGlobals puts the Lua API into the state, and the functions more.
func (s *session) openGlobals(more map[string]lua.GoFunc) error {
	chunk, err := s.state.LoadString(equalSource, "=equal")
	if err != nil {
		return err
	}
	made, err := s.state.Call(s.ctx, chunk)
	if err != nil {
		return err
	}
	s.equal = made[0].(*lua.Function)
	s.testType = s.newTestType()
	provium, err := api.Open(s.state, s)
	if err != nil {
		return err
	}
	co, err := s.coFunctions()
	if err != nil {
		return err
	}
	globals := map[string]lua.Value{
		"provium":    provium,
		"json":       luajson.NewLibrary(s.state),
		"wait_until": s.state.NewFunction("wait_until", s.luaWaitUntil),
		"parallel":   s.state.NewFunction("parallel", s.luaParallel),
		"co":         co,
	}
	for name, fn := range more {
		globals[name] = s.state.NewFunction(name, fn)
	}
	for name, v := range globals {
		if err := s.state.SetGlobal(name, v); err != nil {
			return err
		}
	}
	return nil
}
