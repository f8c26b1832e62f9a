package script

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"provium/internal/lua"
)

// args reads the arguments of one call of the Lua API. Its errors name the function and the
// argument, what was wanted and what came.
type args struct {
	c      *lua.Call
	what   string      // "vm:read_file"
	values []lua.Value // without self; read once, since each reading copies strings
}

// functionArgs are the arguments of a plain function, methodArgs those behind self.
func functionArgs(c *lua.Call, what string) args { return args{c, what, c.Args()} }

func methodArgs(c *lua.Call, what string) args { return args{c, what, c.Args()[1:]} }

// count is how many arguments the author gave.
func (a args) count() int { return len(a.values) }

// value is argument i, counted from 1; nil when it is absent.
func (a args) value(i int) lua.Value {
	if i > len(a.values) {
		return nil
	}
	return a.values[i-1]
}

func (a args) errorf(format string, values ...any) error {
	return fmt.Errorf(a.what+": "+format, values...)
}

// wrong is the error for an argument of another type than wanted.
func (a args) wrong(i int, name, want string) error {
	return a.errorf("argument %d (%s) must be %s, got %s", i, name, want, typeName(a.value(i)))
}

func (a args) str(i int, name string) (string, error) {
	s, ok := a.value(i).(string)
	if !ok {
		return "", a.wrong(i, name, "a string")
	}
	return s, nil
}

// path is a string that names a file: not empty and without NUL.
func (a args) path(i int, name string) (string, error) {
	s, err := a.str(i, name)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", a.errorf("argument %d (%s) must not be empty", i, name)
	case strings.ContainsRune(s, 0):
		return "", a.errorf("argument %d (%s) holds a NUL byte: %s", i, name, quote(clip(s, 80)))
	}
	return s, nil
}

func (a args) function(i int, name string) (*lua.Function, error) {
	f, ok := a.value(i).(*lua.Function)
	if !ok {
		return nil, a.wrong(i, name, "a function")
	}
	return f, nil
}

// duration is an optional length of time.
func (a args) duration(i int, name string, absent time.Duration) (time.Duration, error) {
	if a.value(i) == nil {
		return absent, nil
	}
	d, err := parseDuration(a.value(i))
	if err != nil {
		return 0, a.errorf("argument %d (%s): %w", i, name, err)
	}
	return d, nil
}

// options is a table of named options whose keys were checked.
type options struct {
	what string
	t    *lua.Table // nil when none was given
}

// options reads the optional table at argument i; valid are its keys.
func (a args) options(i int, valid ...string) (options, error) {
	switch t := a.value(i).(type) {
	case nil:
		return options{what: a.what}, nil
	case *lua.Table:
		return newOptions(a.what, t, valid)
	default:
		return options{}, a.wrong(i, "opts", "a table")
	}
}

func newOptions(what string, t *lua.Table, valid []string) (options, error) {
	for _, p := range sortedPairs(t) {
		if key, ok := p.key.(string); ok && slices.Contains(valid, key) {
			continue
		}
		return options{}, fmt.Errorf("%s: unknown option %s (valid: %s)", what, keyText(p.key), strings.Join(valid, ", "))
	}
	return options{what, t}, nil
}

func (o options) get(key string) lua.Value {
	if o.t == nil {
		return nil
	}
	return o.t.Get(key)
}

func (o options) has(key string) bool { return o.get(key) != nil }

func (o options) errorf(key, format string, values ...any) error {
	return fmt.Errorf("%s: opts.%s "+format, append([]any{o.what, key}, values...)...)
}

func (o options) wrong(key, want string) error {
	return o.errorf(key, "must be %s, got %s", want, typeName(o.get(key)))
}

func (o options) str(key, absent string) (string, error) {
	switch v := o.get(key).(type) {
	case nil:
		return absent, nil
	case string:
		return v, nil
	}
	return "", o.wrong(key, "a string")
}

func (o options) boolean(key string, absent bool) (bool, error) {
	switch v := o.get(key).(type) {
	case nil:
		return absent, nil
	case bool:
		return v, nil
	}
	return false, o.wrong(key, "true or false")
}

func (o options) duration(key string, absent time.Duration) (time.Duration, error) {
	if !o.has(key) {
		return absent, nil
	}
	d, err := parseDuration(o.get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.what, key, err)
	}
	return d, nil
}

// integer reads a whole number; ok is false when the option is absent.
func (o options) integer(key string) (n int64, ok bool, err error) {
	if !o.has(key) {
		return 0, false, nil
	}
	n, ok = toInteger(o.get(key))
	if !ok {
		if f, isFloat := o.get(key).(float64); isFloat {
			return 0, false, o.errorf(key, "must be an integer, got %s", showFloat(f))
		}
		return 0, false, o.wrong(key, "an integer")
	}
	return n, true, nil
}

// number reads a finite number; ok is false when the option is absent.
func (o options) number(key string) (n float64, ok bool, err error) {
	switch v := o.get(key).(type) {
	case nil:
		return 0, false, nil
	case int64:
		return float64(v), true, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, false, o.errorf(key, "must be a finite number, got %s", showFloat(v))
		}
		return v, true, nil
	}
	return 0, false, o.wrong(key, "a number")
}

// mode reads permission bits; nil when the option is absent.
func (o options) mode(key string) (*uint32, error) {
	n, ok, err := o.integer(key)
	if err != nil || !ok {
		return nil, err
	}
	if n < 0 || n > 0o7777 {
		return nil, o.errorf(key, "must be an integer between 0 and 4095 (mode 7777), got %d", n)
	}
	m := uint32(n)
	return &m, nil
}

// toInteger takes integers and floats with an integer value.
func toInteger(v lua.Value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		if v == math.Trunc(v) && v >= -(1<<63) && v < 1<<63 {
			return int64(v), true
		}
	}
	return 0, false
}

// result is how Lua functions answer: values, or the first error.
func result(err error, values ...lua.Value) ([]lua.Value, error) {
	if err != nil {
		return nil, err
	}
	return values, nil
}
