package binding

import (
	"provium/internal/lua"
	"provium/internal/script/value"
)

// Method is a method of a handle whose object is of type T. E is the Env, or what a package
// has around it.
type Method[E, T any] = func(x E, a value.Args, object T) ([]lua.Value, error)

// MethodTable returns methods as Lua calls them. kind is the name of the handle in errors.
func MethodTable[E, T any](x E, kind string, methods map[string]Method[E, T]) map[string]lua.GoFunc {
	table := make(map[string]lua.GoFunc, len(methods))
	watching, watches := any(x).(interface {
		Returned(a value.Args, object any, values []lua.Value, err error)
	})
	for name, method := range methods {
		what := kind + ":" + name
		table[name] = func(c *lua.Call) ([]lua.Value, error) {
			a, object := value.MethodArgs(c, what), Object(c)
			values, err := method(x, a, object.(T))
			if watches {
				watching.Returned(a, object, values, err)
			}
			return values, err
		}
	}
	return table
}

// Object returns the object of the handle that a method was called on.
func Object(c *lua.Call) any { return c.Arg(1).(*lua.Userdata).Object() }

// String returns a value as Lua's tostring does, with metamethods. Where those fail it
// returns the name of the type.
func String(c *lua.Call, v lua.Value) string {
	text, err := c.ToString(v)
	if err != nil {
		return lua.TypeName(v)
	}
	return text
}

// StringValue returns a string as a Lua value.
func StringValue(s string) lua.Value { return s }
