package luaapi

import "strings"

// StandardGlobals returns the names of the global variables of Lua 5.4's standard library.
func StandardGlobals() []string {
	return strings.Fields(`_G _VERSION assert collectgarbage coroutine debug dofile error getmetatable io ipairs load
		loadfile math next os package pairs pcall print rawequal rawget rawlen rawset require select setmetatable string
		table tonumber tostring type utf8 warn xpcall`)
}
