package script

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"provium/internal/lua"
)

// pair is one entry of a Lua table, read without metamethods.
type pair struct{ key, value lua.Value }

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

// sortedPairs lists the entries of t in an order that is the same every time: integer keys
// by value, then strings by bytes, then what has no natural order.
func sortedPairs(t *lua.Table) []pair {
	var out []pair
	for k, v := range t.All() {
		out = append(out, pair{k, v})
	}
	slices.SortStableFunc(out, func(a, b pair) int {
		if c := cmp.Compare(keyRank(a.key), keyRank(b.key)); c != 0 {
			return c
		}
		switch k := a.key.(type) {
		case int64:
			return cmp.Compare(k, b.key.(int64))
		case float64:
			return cmp.Compare(k, b.key.(float64))
		case string:
			return cmp.Compare(k, b.key.(string))
		}
		return cmp.Compare(show(a.key), show(b.key))
	})
	return out
}

// isSequence tells whether sorted pairs have exactly the keys 1..n.
func isSequence(pairs []pair) bool {
	for i, p := range pairs {
		if p.key != lua.Value(int64(i+1)) {
			return false
		}
	}
	return true
}

// sequence reads a table that must be an array without holes.
func sequence(t *lua.Table) ([]lua.Value, error) {
	pairs := sortedPairs(t)
	out := make([]lua.Value, len(pairs))
	for i, p := range pairs {
		if p.key != lua.Value(int64(i+1)) {
			return nil, fmt.Errorf("must be an array, it has the key %s", keyText(p.key))
		}
		out[i] = p.value
	}
	return out, nil
}

// stringsOf reads an array of strings.
func stringsOf(t *lua.Table) ([]string, error) {
	items, err := sequence(t)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(items))
	for i, v := range items {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("must be an array of strings, entry %d is %s", i+1, typeName(v))
		}
		out[i] = s
	}
	return out, nil
}

// keyText renders a table key for messages: `name`, 3.
func keyText(k lua.Value) string {
	if s, ok := k.(string); ok {
		return "`" + clip(printable(s), 60) + "`"
	}
	return show(k)
}

// fieldPath extends the path of a nested value by one key: a.b[3]["x y"].
func fieldPath(path string, k lua.Value) string {
	switch k := k.(type) {
	case string:
		if isName(k) {
			if path == "" {
				return k
			}
			return path + "." + k
		}
		return path + "[" + quote(clip(k, 60)) + "]"
	case int64:
		return path + "[" + strconv.FormatInt(k, 10) + "]"
	default:
		return path + "[" + show(k) + "]"
	}
}

// luaWords cannot stand as a bare key.
var luaWords = []string{"and", "break", "do", "else", "elseif", "end", "false", "for",
	"function", "goto", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then",
	"true", "until", "while"}

func isName(s string) bool {
	for i, c := range []byte(s) {
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && !slices.Contains(luaWords, s)
}

// set stores an entry whose key and value are known to be fit for Lua.
func set(t *lua.Table, key, v lua.Value) {
	if err := t.Set(key, v); err != nil {
		panic(err)
	}
}

// array makes a Lua array of values that are fit for Lua; nil leaves a hole.
func array[T any](s *lua.State, items []T, convert func(T) lua.Value) *lua.Table {
	t := s.NewTable()
	for i, item := range items {
		set(t, int64(i+1), convert(item))
	}
	return t
}
