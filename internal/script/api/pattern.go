package api

import (
	"provium/internal/lua"
	"provium/internal/pattern"
	"provium/internal/script/value"
)

// searchPattern reads what a search waits for: a plain text, or {pattern=} with a Lua
// pattern.
func searchPattern(a value.Args) (p pattern.Pattern, err error) {
	t, ok := a.Value(1).(*lua.Table)
	if !ok {
		text, ok := a.Value(1).(string)
		if !ok {
			return p, a.TypeError(1, "pattern", "a string or {pattern=}")
		}
		return pattern.Text(text), nil
	}
	o, err := value.NewOptions(a.Func, t, []string{"pattern"})
	if err != nil {
		return p, err
	}
	if !o.Has("pattern") {
		return p, a.Errorf("argument 1 has no Lua pattern: {pattern=} is missing")
	}
	text, err := o.Str("pattern", "")
	if err != nil {
		return p, err
	}
	if p, err = pattern.Lua(text); err != nil {
		return p, a.Errorf("pattern `%s`: %w", text, err)
	}
	return p, nil
}

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
