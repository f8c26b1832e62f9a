// Package variables finds the variables of Lua code that a person may look at.
//
// It shows and changes nothing. Start with Collectors.
package variables

import (
	"context"

	"provium/internal/lua"
)

// source collects the variables that the code at a stack level sees: those of the
// functions on the stack, the innermost first, and those that a function has from around it.
const source = `local getinfo, getlocal, getupvalue = debug.getinfo, debug.getlocal, debug.getupvalue
local function upvalues(fn, into)
  for i = 1, 255 do
    local name, v = getupvalue(fn, i)
    if not name then break end
    if name ~= "_ENV" and name ~= "" and into[name] == nil then into[name] = v end
  end
end
local function locals(into)
  for level = 3, 50 do
    local info = getinfo(level, "f")
    if not info then break end
    local here = {}
    for i = 1, 255 do
      local ok, name, v = pcall(getlocal, level + 1, i)
      if not ok or not name then break end
      if name:sub(1, 1) ~= "(" then here[name] = v end
    end
    for name, v in pairs(here) do
      if into[name] == nil then into[name] = v end
    end
    upvalues(info.func, into)
  end
end
return locals, upvalues`

// Collectors returns functions that collect variables: those at a call, and those of a function. Both put them into
// their last argument, a table.
func Collectors(ctx context.Context, state *lua.State) (locals, upvalues *lua.Function, err error) {
	chunk, err := state.LoadString(source, "session")
	if err != nil {
		return nil, nil, err
	}
	made, err := state.Call(ctx, chunk)
	if err != nil {
		return nil, nil, err
	}
	return made[0].(*lua.Function), made[1].(*lua.Function), nil
}
