package value

import (
	"fmt"
	"strings"
	"time"

	"provium/internal/lua"
	"provium/internal/luaapi"
)

// Args holds the arguments of one call of the Lua API. The errors of its methods name the
// function and the argument, the type wanted and the type given.
type Args struct {
	Call   *lua.Call
	Func   string      // name of the function for messages, such as "vm:read_file"
	Values []lua.Value // without self; read once, since each reading copies strings
}

// FunctionArgs returns the arguments of a plain function.
func FunctionArgs(c *lua.Call, name string) Args { return Args{c, name, c.Args()} }

// MethodArgs returns the arguments of a method, without self.
func MethodArgs(c *lua.Call, name string) Args { return Args{c, name, c.Args()[1:]} }

// Len returns the number of arguments given.
func (a Args) Len() int { return len(a.Values) }

// Value returns argument i, counted from 1, or nil when it is absent.
func (a Args) Value(i int) lua.Value {
	if i > len(a.Values) {
		return nil
	}
	return a.Values[i-1]
}

// AtMost returns an error if there are more than n arguments; form is how the call is
// written.
func (a Args) AtMost(n int, form string) error {
	for i := n + 1; i <= a.Len(); i++ {
		if a.Value(i) != nil {
			return a.Errorf("unexpected argument %d, a %s: the form is %s", i, lua.TypeName(a.Value(i)), form)
		}
	}
	return nil
}

// Errorf returns an error that starts with the name of the function.
func (a Args) Errorf(format string, values ...any) error {
	return fmt.Errorf(a.Func+": "+format, values...)
}

// TypeError returns the error for an argument which is not of the wanted type.
func (a Args) TypeError(i int, name, want string) error {
	return a.Errorf("argument %d (%s) must be %s, got %s", i, name, want, lua.TypeName(a.Value(i)))
}

// Str returns the string at argument i.
func (a Args) Str(i int, name string) (string, error) {
	s, ok := a.Value(i).(string)
	if !ok {
		return "", a.TypeError(i, name, "a string")
	}
	return s, nil
}

// Path returns the path at argument i: a string which is not empty and has no NUL byte.
func (a Args) Path(i int, name string) (string, error) {
	s, err := a.Str(i, name)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", a.Errorf("argument %d (%s) must not be empty", i, name)
	case strings.ContainsRune(s, 0):
		return "", a.Errorf("argument %d (%s) holds a NUL byte: %s", i, name, Quote(Clip(s, 80)))
	}
	return s, nil
}

// Function returns the function at argument i.
func (a Args) Function(i int, name string) (*lua.Function, error) {
	f, ok := a.Value(i).(*lua.Function)
	if !ok {
		return nil, a.TypeError(i, name, "a function")
	}
	return f, nil
}

// Duration returns the length of time at argument i, or absent when it is nil.
func (a Args) Duration(i int, name string, absent time.Duration) (time.Duration, error) {
	if a.Value(i) == nil {
		return absent, nil
	}
	d, err := ParseDuration(a.Value(i))
	if err != nil {
		return 0, a.Errorf("argument %d (%s): %w", i, name, err)
	}
	return d, nil
}

// Options returns the optional table of named options at argument i, the last one. Keys
// which the description of the API does not have are an error.
func (a Args) Options(i int) (Options, error) {
	for after := i + 1; after <= a.Len(); after++ {
		if a.Value(after) != nil {
			return Options{}, a.Errorf("unexpected argument %d, a %s: the options, argument %d, are the last",
				after, lua.TypeName(a.Value(after)), i)
		}
	}
	switch t := a.Value(i).(type) {
	case nil:
		return Options{Func: a.Func}, nil
	case *lua.Table:
		return NewOptions(a.Func, t, luaapi.OptionKeys(a.Func, i))
	default:
		return Options{}, a.TypeError(i, "opts", "a table")
	}
}

// Results returns what a Lua function returns: err when it is set, else values.
func Results(err error, values ...lua.Value) ([]lua.Value, error) {
	if err != nil {
		return nil, err
	}
	return values, nil
}
