package value

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"provium/internal/lua"
)

// Options is a table of named options whose keys are known to be valid. The readers below
// return their zero value or the given default for an option which is absent.
type Options struct {
	Func  string     // name of the function for messages
	Table *lua.Table // nil when the call has no options
}

// NewOptions returns the options in t. Keys which are not in valid are an error.
func NewOptions(name string, t *lua.Table, valid []string) (Options, error) {
	for _, p := range SortedPairs(t) {
		if key, ok := p.Key.(string); ok && slices.Contains(valid, key) {
			continue
		}
		return Options{}, fmt.Errorf("%s: unknown option %s (valid: %s)",
			name, FormatKey(p.Key), strings.Join(valid, ", "))
	}
	return Options{name, t}, nil
}

// Get returns the option key, or nil.
func (o Options) Get(key string) lua.Value {
	if o.Table == nil {
		return nil
	}
	return o.Table.Get(key)
}

// Has reports whether the option key is given.
func (o Options) Has(key string) bool { return o.Get(key) != nil }

// Errorf returns an error that starts with the names of the function and the option.
func (o Options) Errorf(key, format string, values ...any) error {
	return fmt.Errorf("%s: opts.%s "+format, append([]any{o.Func, key}, values...)...)
}

// TypeError returns the error for an option which is not of the wanted type.
func (o Options) TypeError(key, want string) error {
	return o.Errorf(key, "must be %s, got %s", want, lua.TypeName(o.Get(key)))
}

// Str returns a string.
func (o Options) Str(key, absent string) (string, error) {
	switch v := o.Get(key).(type) {
	case nil:
		return absent, nil
	case string:
		return v, nil
	}
	return "", o.TypeError(key, "a string")
}

// Choice returns a string which is one of valid.
func (o Options) Choice(key, absent string, valid ...string) (string, error) {
	s, err := o.Str(key, absent)
	if err != nil {
		return "", err
	}
	if !slices.Contains(valid, s) {
		return "", o.Errorf(key, "`%s` is unknown (valid: %s)", Clip(Printable(s), 60), strings.Join(valid, ", "))
	}
	return s, nil
}

// Path returns a path: a string which is not empty and has no NUL byte.
func (o Options) Path(key string) (string, error) {
	path, err := o.Str(key, "")
	switch {
	case err != nil || !o.Has(key):
		return "", err
	case path == "":
		return "", o.Errorf(key, "must not be empty")
	case strings.ContainsRune(path, 0):
		return "", o.Errorf(key, "holds a NUL byte: %s", Quote(Clip(path, 80)))
	}
	return path, nil
}

// Bool returns a boolean.
func (o Options) Bool(key string, absent bool) (bool, error) {
	switch v := o.Get(key).(type) {
	case nil:
		return absent, nil
	case bool:
		return v, nil
	}
	return false, o.TypeError(key, "true or false")
}

// Duration returns a length of time.
func (o Options) Duration(key string, absent time.Duration) (time.Duration, error) {
	if !o.Has(key) {
		return absent, nil
	}
	d, err := ParseDuration(o.Get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.Func, key, err)
	}
	return d, nil
}

// Size returns an amount of memory or storage in bytes.
func (o Options) Size(key string, absent int64) (int64, error) {
	if !o.Has(key) {
		return absent, nil
	}
	n, err := ParseSize(o.Get(key))
	if err != nil {
		return 0, fmt.Errorf("%s: opts.%s: %w", o.Func, key, err)
	}
	return n, nil
}

// Integer returns a whole number; ok is false when the option is absent.
func (o Options) Integer(key string) (n int64, ok bool, err error) {
	if !o.Has(key) {
		return 0, false, nil
	}
	n, ok = ToInteger(o.Get(key))
	if !ok {
		if f, isFloat := o.Get(key).(float64); isFloat {
			return 0, false, o.Errorf(key, "must be an integer, got %s", FormatFloat(f))
		}
		return 0, false, o.TypeError(key, "an integer")
	}
	return n, true, nil
}

// IntegerWithin returns a whole number between lo and hi.
func (o Options) IntegerWithin(key string, absent, lo, hi int64) (int64, error) {
	n, given, err := o.Integer(key)
	switch {
	case err != nil:
		return 0, err
	case !given:
		return absent, nil
	case n < lo || n > hi:
		return 0, o.Errorf(key, "must be between %d and %d, got %d", lo, hi, n)
	}
	return n, nil
}

// Integers returns whole numbers, given as one number or as a non-empty array.
func (o Options) Integers(key string) ([]int64, error) {
	t, ok := o.Get(key).(*lua.Table)
	if !ok {
		n, given, err := o.Integer(key)
		if err != nil || !given {
			return nil, err
		}
		return []int64{n}, nil
	}
	items, err := Sequence(t)
	if err != nil {
		return nil, o.Errorf(key, "%w", err)
	}
	if len(items) == 0 {
		return nil, o.Errorf(key, "must not be empty")
	}
	out := make([]int64, len(items))
	for i, v := range items {
		if out[i], ok = ToInteger(v); !ok {
			return nil, o.Errorf(key, "must hold integers, entry %d is %s", i+1, lua.TypeName(v))
		}
	}
	return out, nil
}

// Number returns a finite number; ok is false when the option is absent.
func (o Options) Number(key string) (n float64, ok bool, err error) {
	switch v := o.Get(key).(type) {
	case nil:
		return 0, false, nil
	case int64:
		return float64(v), true, nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, false, o.Errorf(key, "must be a finite number, got %s", FormatFloat(v))
		}
		return v, true, nil
	}
	return 0, false, o.TypeError(key, "a number")
}

// Mode returns permission bits, or nil when the option is absent.
func (o Options) Mode(key string) (*uint32, error) {
	n, ok, err := o.Integer(key)
	if err != nil || !ok {
		return nil, err
	}
	if n < 0 || n > 0o7777 {
		return nil, o.Errorf(key, "must be an integer between 0 and 4095 (mode 7777), got %d", n)
	}
	m := uint32(n)
	return &m, nil
}

// Function returns a function, or nil when the option is absent.
func (o Options) Function(key string) (*lua.Function, error) {
	if !o.Has(key) {
		return nil, nil
	}
	fn, ok := o.Get(key).(*lua.Function)
	if !ok {
		return nil, o.TypeError(key, "a function")
	}
	return fn, nil
}

// ToInteger returns v as an integer. It accepts integers and floats with a whole value.
func ToInteger(v lua.Value) (int64, bool) {
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
