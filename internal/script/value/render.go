package value

import (
	"fmt"
	"strings"

	"provium/internal/lua"
)

const (
	renderMaxDepth = 12
	renderMaxLines = 2000
)

// renderer formats a value as lines, such that equal structures have equal texts. leaf
// formats a value which is neither a table nor a string.
type renderer struct {
	leaf  func(lua.Value) string
	lines []string
	above map[uintptr]string // open tables, with their paths
}

// Render formats the structure of v with one entry per line: keys are sorted and cycles are
// named. leaf formats a value which is neither a table nor a string. Nesting and the number
// of lines are limited; the text shows where it was cut.
func Render(v lua.Value, leaf func(lua.Value) string) string {
	r := &renderer{leaf: leaf, above: map[uintptr]string{}}
	r.value("", v, "", "", 0)
	return strings.Join(r.lines, "\n")
}

// value appends prefix and v on one or more lines. path leads from the root to v.
func (r *renderer) value(prefix string, v lua.Value, suffix, path string, depth int) {
	if len(r.lines) > renderMaxLines {
		return
	}
	indent := strings.Repeat("  ", depth)
	t, ok := v.(*lua.Table)
	if !ok {
		text := ""
		if s, isString := v.(string); isString {
			text = Quote(s)
		} else {
			text = r.leaf(v)
		}
		r.lines = append(r.lines, indent+prefix+text+suffix)
		return
	}
	if at, open := r.above[t.Pointer()]; open {
		r.lines = append(r.lines, fmt.Sprintf("%s%s<cycle to %s>%s", indent, prefix, at, suffix))
		return
	}
	if depth >= renderMaxDepth {
		r.lines = append(r.lines, indent+prefix+"{...}"+suffix)
		return
	}
	pairs := SortedPairs(t)
	if len(pairs) == 0 {
		r.lines = append(r.lines, indent+prefix+"{}"+suffix)
		return
	}
	name := path
	if name == "" {
		name = "the outermost table"
	}
	r.above[t.Pointer()] = name
	defer delete(r.above, t.Pointer())
	r.lines = append(r.lines, indent+prefix+"{")
	for i, p := range pairs {
		if len(r.lines) > renderMaxLines {
			r.lines = append(r.lines, fmt.Sprintf("%s  ... (%d more entries)", indent, len(pairs)-i))
			break
		}
		label := ""
		switch k := p.Key.(type) {
		case int64:
			if k != int64(i+1) {
				label = fmt.Sprintf("[%d] = ", k)
			}
		case string:
			if label = "[" + Quote(k) + "] = "; IsName(k) {
				label = k + " = "
			}
		default:
			label = "[" + r.leaf(p.Key) + "] = "
		}
		r.value(label, p.Value, ",", FieldPath(path, p.Key), depth+1)
	}
	r.lines = append(r.lines, indent+"}"+suffix)
}
