package value

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"provium/internal/lua"
)

// Pair is one entry of a Lua table.
type Pair struct{ Key, Value lua.Value }

// keyRank orders keys of different types: integers, floats, strings, the rest.
func keyRank(k lua.Value) int {
	switch k.(type) {
	case int64:
		return 0
	case float64:
		return 1
	case string:
		return 2
	}
	return 3
}

// SortedPairs returns the entries of t in a fixed order: integer keys by value, floats by
// value, strings by bytes, then keys of other types. Metamethods do not run.
func SortedPairs(t *lua.Table) []Pair {
	var out []Pair
	for k, v := range t.All() {
		out = append(out, Pair{k, v})
	}
	slices.SortStableFunc(out, func(a, b Pair) int {
		if c := cmp.Compare(keyRank(a.Key), keyRank(b.Key)); c != 0 {
			return c
		}
		switch k := a.Key.(type) {
		case int64:
			return cmp.Compare(k, b.Key.(int64))
		case float64:
			return cmp.Compare(k, b.Key.(float64))
		case string:
			return cmp.Compare(k, b.Key.(string))
		}
		return cmp.Compare(Format(a.Key), Format(b.Key))
	})
	return out
}

// IsSequence reports whether the keys of pairs, which are sorted, are exactly 1..n.
func IsSequence(pairs []Pair) bool {
	for i, p := range pairs {
		if p.Key != lua.Value(int64(i+1)) {
			return false
		}
	}
	return true
}

// Sequence returns the values of t, which must be an array without holes.
func Sequence(t *lua.Table) ([]lua.Value, error) {
	pairs := SortedPairs(t)
	out := make([]lua.Value, len(pairs))
	for i, p := range pairs {
		if n, isInt := p.Key.(int64); isInt && n > int64(i+1) {
			return nil, fmt.Errorf("must be an array without holes: entry %d is missing", i+1)
		}
		if p.Key != lua.Value(int64(i+1)) {
			return nil, fmt.Errorf("must be an array, it has the key %s", FormatKey(p.Key))
		}
		out[i] = p.Value
	}
	return out, nil
}

// Strings returns the values of t, which must be an array of strings.
func Strings(t *lua.Table) ([]string, error) {
	items, err := Sequence(t)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(items))
	for i, v := range items {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("must be an array of strings, entry %d is %s", i+1, lua.TypeName(v))
		}
		out[i] = s
	}
	return out, nil
}

// FormatKey formats a table key for messages: `name`, 3.
func FormatKey(k lua.Value) string {
	if s, ok := k.(string); ok {
		return "`" + Clip(Printable(s), 60) + "`"
	}
	return Format(k)
}

// FieldPath extends the path of a nested value by one key: a.b[3]["x y"].
func FieldPath(path string, k lua.Value) string {
	switch k := k.(type) {
	case string:
		if IsName(k) {
			if path == "" {
				return k
			}
			return path + "." + k
		}
		return path + "[" + Quote(Clip(k, 60)) + "]"
	case int64:
		return path + "[" + strconv.FormatInt(k, 10) + "]"
	default:
		return path + "[" + Format(k) + "]"
	}
}

// luaWords are the reserved words of Lua, which cannot be bare keys.
var luaWords = []string{"and", "break", "do", "else", "elseif", "end", "false", "for",
	"function", "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then",
	"true", "until", "while"}

// IsName reports whether s is a name in Lua's syntax, so that it can be a bare key.
func IsName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && !slices.Contains(luaWords, s)
}

// MustSet stores an entry in t. It panics when key or v has no Lua form, so it is for keys
// and values whose types are known.
func MustSet(t *lua.Table, key, v lua.Value) {
	if err := t.Set(key, v); err != nil {
		panic(err)
	}
}

// Array returns a Lua array of the converted items. A nil leaves a hole. It panics when a
// value has no Lua form.
func Array[T any](s *lua.State, items []T, convert func(T) lua.Value) *lua.Table {
	t := s.NewTable()
	for i, item := range items {
		MustSet(t, int64(i+1), convert(item))
	}
	return t
}
