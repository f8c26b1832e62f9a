package luajson

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"provium/internal/lua"
	"provium/internal/script/value"
)

// maxGaps limits the missing entries of an array, which become null.
const maxGaps = 1_000_000

// Encode returns the JSON text of a Lua value. A table with only positive integer keys is an
// array with null for missing entries, any other one an object with sorted keys. Strings keep
// their bytes, except for the characters that JSON escapes. NaN, infinities, cycles and values
// of other types are errors.
func Encode(v lua.Value) (string, error) {
	e := &encoder{above: map[uintptr]bool{}}
	if err := e.value("value", v, 0); err != nil {
		return "", err
	}
	return string(e.out), nil
}

type encoder struct {
	out   []byte
	above map[uintptr]bool // open tables, to find cycles
}

// value appends v. path leads to it from the outermost value.
func (e *encoder) value(path string, v lua.Value, depth int) error {
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
		if depth >= maxDepth {
			return fmt.Errorf("nesting deeper than %d levels", maxDepth)
		}
		e.above[v.Pointer()] = true
		defer delete(e.above, v.Pointer())
		return e.table(path, v, depth)
	default:
		return fmt.Errorf("%s is a %s, which JSON cannot hold", path, lua.TypeName(v))
	}
	return nil
}

// float appends a number that decodes to a float again.
func (e *encoder) float(path string, f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%s is %s, which JSON cannot hold", path, value.FormatFloat(f))
	}
	from := len(e.out)
	e.out = strconv.AppendFloat(e.out, f, 'g', -1, 64)
	if !slices.ContainsFunc(e.out[from:], func(c byte) bool { return c == '.' || c == 'e' }) {
		e.out = append(e.out, ".0"...)
	}
	return nil
}

// str appends a string with the escapes of JSON.
func (e *encoder) str(s string) {
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

// table appends a table with only positive integer keys as an array, others as an object.
func (e *encoder) table(path string, t *lua.Table, depth int) error {
	pairs := value.SortedPairs(t)
	for _, p := range pairs {
		switch p.Key.(type) {
		case int64, string:
		default:
			return fmt.Errorf("%s has a key of type %s (valid: strings and integers)", path, lua.TypeName(p.Key))
		}
	}
	if len(pairs) > 0 {
		first, isInt := pairs[0].Key.(int64)
		last, allInts := pairs[len(pairs)-1].Key.(int64)
		if isInt && allInts && first > 0 {
			return e.array(path, pairs, last, depth)
		}
	}
	return e.object(path, pairs, depth)
}

// array appends pairs, whose last key is last, with null for missing ones.
func (e *encoder) array(path string, pairs []value.Pair, last int64, depth int) error {
	if gaps := last - int64(len(pairs)); gaps > maxGaps {
		return fmt.Errorf("%s is an array with %d gaps (at most %d)", path, gaps, maxGaps)
	}
	e.out = append(e.out, '[')
	at := int64(1)
	for _, p := range pairs {
		for ; at < p.Key.(int64); at++ {
			e.out = append(e.out, "null,"...)
		}
		if err := e.value(value.FieldPath(path, p.Key), p.Value, depth+1); err != nil {
			return err
		}
		if at++; at <= last {
			e.out = append(e.out, ',')
		}
	}
	e.out = append(e.out, ']')
	return nil
}

// object appends pairs, sorted by the text of their keys.
func (e *encoder) object(path string, pairs []value.Pair, depth int) error {
	type member struct {
		name string
		pair value.Pair
	}
	members := make([]member, len(pairs))
	for i, p := range pairs {
		members[i] = member{value.Format(p.Key), p}
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
		if err := e.value(value.FieldPath(path, m.pair.Key), m.pair.Value, depth+1); err != nil {
			return err
		}
	}
	e.out = append(e.out, '}')
	return nil
}
