package value

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"provium/internal/lua"
)

// Format formats a nil, boolean, number or string as tostring does, and other values as
// their type.
func Format(v lua.Value) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return v
	case float64:
		return FormatFloat(v)
	case bool, int64:
		return fmt.Sprint(v)
	default:
		return lua.TypeName(v)
	}
}

// FormatFloat formats a float as Lua does by default ("%.14g"), with ".0" on whole numbers.
func FormatFloat(f float64) string {
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

// Clip cuts s to at most n bytes at a character boundary and appends its full length. A
// string which is not longer stays as it is.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:n], len(s))
}

// Quote formats s as a Lua string literal on one line. Printable UTF-8 stays readable,
// other bytes are escaped.
func Quote(s string) string {
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

// Printable escapes the control characters and invalid UTF-8 in s, so that it fits on one
// line of a terminal.
func Printable(s string) string {
	text := Quote(s)
	text = text[1 : len(text)-1]
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(text)
}
