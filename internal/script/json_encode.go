package script

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"provium/internal/lua"
)

// jsonMaxGaps is how many missing entries an array may be padded with.
const jsonMaxGaps = 1_000_000

// encodeJSON renders a Lua value as JSON, object keys sorted. Strings are bytes and stay
// what they are, except for what JSON needs escaped.
func encodeJSON(v lua.Value) (string, error) {
	e := &jsonEncoder{above: map[uintptr]bool{}}
	if err := e.value("value", v, 0); err != nil {
		return "", err
	}
	return string(e.out), nil
}

type jsonEncoder struct {
	out   []byte
	above map[uintptr]bool // tables being encoded, to find cycles
}

func (e *jsonEncoder) value(path string, v lua.Value, depth int) error {
	switch v := v.(type) {
	case nil:
		e.out = append(e.out, "null"...)
	case bool:
		e.out = strconv.AppendBool(e.out, v)
	case int64:
		e.out = strconv.AppendInt(e.out, v, 10)
	case float64:
		return e.float(path, v)
	case string:
		e.str(v)
	case *lua.Table:
		if e.above[v.Pointer()] {
			return fmt.Errorf("%s is a cycle", path)
		}
		if depth >= jsonMaxDepth {
			return fmt.Errorf("nesting deeper than %d levels", jsonMaxDepth)
		}
		e.above[v.Pointer()] = true
		defer delete(e.above, v.Pointer())
		return e.table(path, v, depth)
	default:
		return fmt.Errorf("%s is a %s, which JSON cannot hold", path, typeName(v))
	}
	return nil
}

func (e *jsonEncoder) float(path string, f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%s is %s, which JSON cannot hold", path, showFloat(f))
	}
	from := len(e.out)
	e.out = strconv.AppendFloat(e.out, f, 'g', -1, 64)
	if !slices.ContainsFunc(e.out[from:], func(c byte) bool { return c == '.' || c == 'e' }) {
		e.out = append(e.out, ".0"...) // so that it comes back as a float
	}
	return nil
}

func (e *jsonEncoder) str(s string) {
	e.out = append(e.out, '"')
	plain := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		e.out = append(e.out, s[plain:i]...)
		plain = i + 1
		if short := strings.IndexByte("\"\\\b\f\n\r\t", c); short >= 0 {
			e.out = append(e.out, '\\', `"\bfnrt`[short])
		} else {
			e.out = fmt.Appendf(e.out, `\u%04x`, c)
		}
	}
	e.out = append(append(e.out, s[plain:]...), '"')
}

// table encodes a table with only positive integer keys as an array, others as an object.
func (e *jsonEncoder) table(path string, t *lua.Table, depth int) error {
	pairs := sortedPairs(t)
	for _, p := range pairs {
		switch p.key.(type) {
		case int64, string:
		default:
			return fmt.Errorf("%s has a key of type %s (valid: strings and integers)", path, typeName(p.key))
		}
	}
	if len(pairs) > 0 {
		first, isInt := pairs[0].key.(int64)
		last, allInts := pairs[len(pairs)-1].key.(int64)
		if isInt && allInts && first > 0 {
			return e.array(path, pairs, last, depth)
		}
	}
	return e.object(path, pairs, depth)
}

func (e *jsonEncoder) array(path string, pairs []pair, last int64, depth int) error {
	if gaps := last - int64(len(pairs)); gaps > jsonMaxGaps {
		return fmt.Errorf("%s is an array with %d gaps (at most %d)", path, gaps, jsonMaxGaps)
	}
	e.out = append(e.out, '[')
	at := int64(1)
	for _, p := range pairs {
		for ; at < p.key.(int64); at++ {
			e.out = append(e.out, "null,"...)
		}
		if err := e.value(fieldPath(path, p.key), p.value, depth+1); err != nil {
			return err
		}
		if at++; at <= last {
			e.out = append(e.out, ',')
		}
	}
	e.out = append(e.out, ']')
	return nil
}

func (e *jsonEncoder) object(path string, pairs []pair, depth int) error {
	type member struct {
		name string
		pair pair
	}
	members := make([]member, len(pairs))
	for i, p := range pairs {
		members[i] = member{show(p.key), p}
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	e.out = append(e.out, '{')
	for i, m := range members {
		if i > 0 {
			if m.name == members[i-1].name {
				return fmt.Errorf("%s has the key `%s` as integer and as string", path, m.name)
			}
			e.out = append(e.out, ',')
		}
		e.str(m.name)
		e.out = append(e.out, ':')
		if err := e.value(fieldPath(path, m.pair.key), m.pair.value, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}

// jsonFunctions is the global `json`.
func jsonFunctions(s *lua.State) *lua.Table {
	t := s.NewTable()
	set(t, "encode", s.NewFunction("json.encode", func(c *lua.Call) ([]lua.Value, error) {
		text, err := encodeJSON(c.Arg(1))
		if err != nil {
			return nil, fmt.Errorf("json.encode: %w", err)
		}
		return []lua.Value{text}, nil
	}))
	set(t, "decode", s.NewFunction("json.decode", func(c *lua.Call) ([]lua.Value, error) {
		text, ok := c.Arg(1).(string)
		if !ok {
			return nil, fmt.Errorf("json.decode: argument 1 must be a string, got %s", typeName(c.Arg(1)))
		}
		v, err := decodeJSON(text)
		if err != nil {
			return nil, fmt.Errorf("json.decode: %w", err)
		}
		return []lua.Value{jsonToLua(s, v)}, nil
	}))
	return t
}

// jsonToLua builds what decodeJSON read; null is nil, so fields with it vanish.
func jsonToLua(s *lua.State, v any) lua.Value {
	switch v := v.(type) {
	case jsonArray:
		t := s.NewTable()
		for i, item := range v {
			if item != nil {
				set(t, int64(i+1), jsonToLua(s, item))
			}
		}
		return t
	case jsonObject:
		t := s.NewTable()
		for _, m := range v {
			set(t, m.name, jsonToLua(s, m.value))
		}
		return t
	default:
		return v
	}
}
