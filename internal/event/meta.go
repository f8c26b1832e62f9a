package event

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Meta is a test's metadata. Its values are nil, bool, int64, float64, string,
// []byte, []any of these, and map[string]any of these. A string that is not
// UTF-8 travels as bytes, and so comes back as []byte.
type Meta map[string]any

// MaxMetaDepth is how deep arrays and maps may nest in a [Meta].
const MaxMetaDepth = 64

var errMetaDepth = errors.New("nested too deeply")

// Check reports the first value of m that is not of an allowed type, naming
// its place. A cycle shows as too deep a nesting.
func (m Meta) Check() error {
	for _, k := range sortedKeys(m) {
		if err := checkValue(m[k], "meta."+k, 1); err != nil {
			return err
		}
	}
	return nil
}

func checkValue(v any, where string, depth int) error {
	if depth > MaxMetaDepth {
		return fmt.Errorf("value of %.80s: %w (at most %d levels)", where, errMetaDepth, MaxMetaDepth)
	}
	switch v := v.(type) {
	case nil, bool, int64, float64, string, []byte:
		return nil
	case []any:
		for i, e := range v {
			if err := checkValue(e, fmt.Sprintf("%s[%d]", where, i+1), depth+1); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for _, k := range sortedKeys(v) {
			if err := checkValue(v[k], where+"."+k, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("value of %s: unsupported type %T", where, v)
}

func sortedKeys[M ~map[string]V, V any](m M) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// validText returns s as valid UTF-8, as fields of the kind str must be. Bytes that
// are not are shown as \xNN, so that a reader loses nothing.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}
