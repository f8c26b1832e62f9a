package value

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"provium/internal/lua"
)

func TestOptions(t *testing.T) {
	s := newState(t)
	str := func(o Options) (any, error) { return o.Str("k", "default") }
	choice := func(o Options) (any, error) { return o.Choice("k", "b", "a", "b") }
	path := func(o Options) (any, error) { return o.Path("k") }
	boolean := func(o Options) (any, error) { return o.Bool("k", true) }
	duration := func(o Options) (any, error) { return o.Duration("k", time.Hour) }
	size := func(o Options) (any, error) { return o.Size("k", 7) }
	integer := func(o Options) (any, error) {
		n, ok, err := o.Integer("k")
		return fmt.Sprint(n, ok), err
	}
	within := func(o Options) (any, error) { return o.IntegerWithin("k", -1, 1, 9) }
	integers := func(o Options) (any, error) {
		list, err := o.Integers("k")
		return fmt.Sprint(list), err
	}
	number := func(o Options) (any, error) {
		n, ok, err := o.Number("k")
		return fmt.Sprint(n, ok), err
	}
	mode := func(o Options) (any, error) {
		m, err := o.Mode("k")
		if m == nil {
			return nil, err
		}
		return *m, err
	}
	function := func(o Options) (any, error) {
		f, err := o.Function("k")
		return f != nil, err
	}
	for _, c := range []struct {
		name, option string
		read         func(Options) (any, error)
		want         any
	}{
		{"str", `nil`, str, "default"},
		{"str", `"x"`, str, "x"},
		{"str", `1`, str, errors.New("vm:f: opts.k must be a string, got number")},
		{"choice", `nil`, choice, "b"},
		{"choice", `"a"`, choice, "a"},
		{"choice", `"\n"`, choice, errors.New("vm:f: opts.k `\\n` is unknown (valid: a, b)")},
		{"choice", `1`, choice, errors.New("vm:f: opts.k must be a string, got number")},
		{"path", `nil`, path, ""},
		{"path", `"x y"`, path, "x y"},
		{"path", `""`, path, errors.New("vm:f: opts.k must not be empty")},
		{"path", `"\0"`, path, errors.New(`vm:f: opts.k holds a NUL byte: "\x00"`)},
		{"path", `true`, path, errors.New("vm:f: opts.k must be a string, got boolean")},
		{"bool", `nil`, boolean, true},
		{"bool", `false`, boolean, false},
		{"bool", `0`, boolean, errors.New("vm:f: opts.k must be true or false, got number")},
		{"duration", `nil`, duration, time.Hour},
		{"duration", `"5ms"`, duration, 5 * time.Millisecond},
		{"duration", `{}`, duration, errors.New("vm:f: opts.k: duration: expected number|string, got table")},
		{"size", `nil`, size, int64(7)},
		{"size", `"1K"`, size, int64(1024)},
		{"size", `0`, size, errors.New("vm:f: opts.k: size must be positive, got 0")},
		{"integer", `nil`, integer, "0 false"},
		{"integer", `3.0`, integer, "3 true"},
		{"integer", `3.5`, integer, errors.New("vm:f: opts.k must be an integer, got 3.5")},
		{"integer", `"3"`, integer, errors.New("vm:f: opts.k must be an integer, got string")},
		{"within", `nil`, within, int64(-1)},
		{"within", `9`, within, int64(9)},
		{"within", `0`, within, errors.New("vm:f: opts.k must be between 1 and 9, got 0")},
		{"within", `10`, within, errors.New("vm:f: opts.k must be between 1 and 9, got 10")},
		{"within", `{}`, within, errors.New("vm:f: opts.k must be an integer, got table")},
		{"integers", `nil`, integers, "[]"},
		{"integers", `5`, integers, "[5]"},
		{"integers", `{1, 2.0}`, integers, "[1 2]"},
		{"integers", `{}`, integers, errors.New("vm:f: opts.k must not be empty")},
		{"integers", `{1, "x"}`, integers, errors.New("vm:f: opts.k must hold integers, entry 2 is string")},
		{"integers", `{a = 1}`, integers, errors.New("vm:f: opts.k must be an array, it has the key `a`")},
		{"integers", `"x"`, integers, errors.New("vm:f: opts.k must be an integer, got string")},
		{"number", `nil`, number, "0 false"},
		{"number", `2`, number, "2 true"},
		{"number", `2.5`, number, "2.5 true"},
		{"number", `1/0`, number, errors.New("vm:f: opts.k must be a finite number, got inf")},
		{"number", `"2"`, number, errors.New("vm:f: opts.k must be a number, got string")},
		{"mode", `nil`, mode, nil},
		{"mode", `420`, mode, uint32(0o644)},
		{"mode", `4096`, mode, errors.New("vm:f: opts.k must be an integer between 0 and 4095 (mode 7777), got 4096")},
		{"mode", `"644"`, mode, errors.New("vm:f: opts.k must be an integer, got string")},
		{"function", `nil`, function, false},
		{"function", `print`, function, true},
		{"function", `1`, function, errors.New("vm:f: opts.k must be a function, got number")},
	} {
		o, err := NewOptions("vm:f", eval(t, s, "{k = "+c.option+"}").(*lua.Table), []string{"k"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.read(o)
		check(t, c.name+" "+c.option, got, err, c.want)
	}
}

func TestToInteger(t *testing.T) {
	for in, want := range map[lua.Value]int64{
		int64(-5): -5, 4.0: 4, -9223372036854775808.0: math.MinInt64, 9223372036854774784.0: 9223372036854774784,
	} {
		if got, ok := ToInteger(in); !ok || got != want {
			t.Errorf("ToInteger(%v) = %v, %v; want %v", in, got, ok, want)
		}
	}
	for _, in := range []lua.Value{nil, "1", true, 0.5, 9223372036854775808.0, math.NaN(), math.Inf(-1)} {
		if got, ok := ToInteger(in); ok {
			t.Errorf("ToInteger(%v) = %v, want none", in, got)
		}
	}
}
