package luajson

import (
	"fmt"

	"provium/internal/lua"
	"provium/internal/script/value"
)

// NewLibrary returns the table of the functions encode and decode, which is the global json.
func NewLibrary(s *lua.State) *lua.Table {
	t := s.NewTable()
	value.MustSet(t, "encode", s.NewFunction("json.encode", func(c *lua.Call) ([]lua.Value, error) {
		text, err := Encode(c.Arg(1))
		if err != nil {
			return nil, fmt.Errorf("json.encode: %w", err)
		}
		return []lua.Value{text}, nil
	}))
	value.MustSet(t, "decode", s.NewFunction("json.decode", func(c *lua.Call) ([]lua.Value, error) {
		text, ok := c.Arg(1).(string)
		if !ok {
			return nil, fmt.Errorf("json.decode: argument 1 must be a string, got %s", lua.TypeName(c.Arg(1)))
		}
		v, err := Decode(s, text)
		if err != nil {
			return nil, fmt.Errorf("json.decode: %w", err)
		}
		return []lua.Value{v}, nil
	}))
	return t
}
