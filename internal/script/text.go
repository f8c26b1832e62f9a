package script

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"provium/internal/lua"
)

// typeName is the Lua type of v for messages; userdata are called by their kind.
func typeName(v lua.Value) string { return lua.TypeName(v) }

// show renders a plain value as tostring does; what has no text of its own, by its type.
func show(v lua.Value) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return v
	case float64:
		return showFloat(v)
	case bool, int64:
		return fmt.Sprint(v)
	default:
		return typeName(v)
	}
}

// showFloat renders a float as Lua does by default ("%.14g"), with ".0" on whole numbers.
func showFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	text := strconv.FormatFloat(f, 'g', 14, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}

// clip cuts s to about n bytes at a character boundary and says how long it was.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:n], len(s))
}

// quote renders s as a Lua string literal on one line: UTF-8 stays readable, other bytes
// are escaped.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError && size == 1 || !unicode.IsPrint(r):
			for i := 0; i < size; i++ {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	b.WriteByte('"')
	return b.String()
}

// printable makes s fit for one line of a terminal: control characters and bytes that are
// no UTF-8 are escaped, the rest stays.
func printable(s string) string {
	text := quote(s)
	text = text[1 : len(text)-1]
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(text)
}
