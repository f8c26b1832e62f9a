package api

import (
	"provium/internal/lua"
	"provium/internal/pattern"
)

// captured is what a match has captured, for Lua.
func captured(m *pattern.Match) []lua.Value {
	var all []lua.Value
	for _, c := range m.Captures {
		if c.Position > 0 {
			all = append(all, int64(c.Position))
		} else {
			all = append(all, string(c.Text))
		}
	}
	return all
}
