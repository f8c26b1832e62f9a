package value

import (
	"provium/internal/lua"
	"provium/internal/pattern"
)

// SearchPattern reads what a search looks for as the first argument: a plain text, or
// {pattern=} with a Lua pattern.
func (a Args) SearchPattern() (p pattern.Pattern, err error) {
	t, ok := a.Value(1).(*lua.Table)
	if !ok {
		text, ok := a.Value(1).(string)
		if !ok {
			return p, a.TypeError(1, "pattern", "a string or {pattern=}")
		}
		return pattern.Text(text), nil
	}
	o, err := NewOptions(a.Func, t, []string{"pattern"})
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
