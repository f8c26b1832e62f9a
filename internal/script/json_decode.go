package script

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonMaxDepth bounds nesting, so that hostile text cannot exhaust a stack.
const jsonMaxDepth = 1000

// A decoded JSON value is nil, bool, int64, float64, string, jsonArray or jsonObject.
type (
	jsonArray  []any
	jsonObject []jsonMember
	jsonMember struct {
		name  string
		value any
	}
)

// jsonSyntaxError is where and why a text is no JSON. Offset counts bytes from 0.
type jsonSyntaxError struct {
	reason               string
	offset, line, column int
}

func (e *jsonSyntaxError) Error() string {
	return fmt.Sprintf("%s at line %d column %d (byte %d)", e.reason, e.line, e.column, e.offset+1)
}

// decodeJSON reads one JSON value that takes up the whole text. Integers of 64 bits are
// exact, those up to 2^64-1 keep their bits in an int64, other numbers are floats.
func decodeJSON(text string) (any, error) {
	d := &jsonDecoder{text: text}
	v := d.value(0)
	if d.err == nil {
		if d.blank(); d.at < len(d.text) {
			d.fail("trailing %s after the value", d.here())
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return v, nil
}

// jsonDecoder reads forward through text; after its first error every step is void.
type jsonDecoder struct {
	text string
	at   int
	err  error
}

func (d *jsonDecoder) fail(format string, args ...any) {
	if d.err != nil {
		return
	}
	before := d.text[:d.at]
	d.err = &jsonSyntaxError{
		reason: fmt.Sprintf(format, args...),
		offset: d.at,
		line:   strings.Count(before, "\n") + 1,
		column: d.at - strings.LastIndexByte(before, '\n'),
	}
}

// here describes the byte the decoder stands at.
func (d *jsonDecoder) here() string {
	if d.at >= len(d.text) {
		return "end of text"
	}
	r, size := utf8.DecodeRuneInString(d.text[d.at:])
	if r == utf8.RuneError && size == 1 || r < ' ' || r == 0x7f {
		return fmt.Sprintf("byte 0x%02x", d.text[d.at])
	}
	return fmt.Sprintf("`%c`", r)
}

func (d *jsonDecoder) blank() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

// next tells whether the byte c stands next, and steps over it.
func (d *jsonDecoder) next(c byte) bool {
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

func (d *jsonDecoder) value(depth int) any {
	d.blank()
	if depth > jsonMaxDepth {
		d.fail("nesting deeper than %d levels", jsonMaxDepth)
		return nil
	}
	switch {
	case d.at >= len(d.text):
		d.fail("unexpected end of text")
		return nil
	case d.next('{'):
		return d.object(depth)
	case d.next('['):
		return d.array(depth)
	case d.next('"'):
		return d.str()
	case d.word("null"):
		return nil
	case d.word("true"):
		return true
	case d.word("false"):
		return false
	}
	if c := d.text[d.at]; c == '-' || '0' <= c && c <= '9' {
		return d.number()
	}
	d.fail("unexpected %s, expected a value", d.here())
	return nil
}

func (d *jsonDecoder) word(w string) bool {
	if !strings.HasPrefix(d.text[d.at:], w) {
		return false
	}
	d.at += len(w)
	return true
}

func (d *jsonDecoder) array(depth int) any {
	items := jsonArray{}
	if d.blank(); d.next(']') {
		return items
	}
	for d.err == nil {
		items = append(items, d.value(depth+1))
		d.blank()
		switch {
		case d.err != nil:
		case d.next(']'):
			return items
		case !d.next(','):
			d.fail("unexpected %s, expected `,` or `]`", d.here())
		}
	}
	return nil
}

func (d *jsonDecoder) object(depth int) any {
	members := jsonObject{}
	if d.blank(); d.next('}') {
		return members
	}
	for d.err == nil {
		if d.blank(); !d.next('"') {
			d.fail("unexpected %s, expected a string as key", d.here())
			break
		}
		name := d.str()
		if d.blank(); d.err == nil && !d.next(':') {
			d.fail("unexpected %s, expected `:`", d.here())
			break
		}
		members = append(members, jsonMember{name, d.value(depth + 1)})
		d.blank()
		switch {
		case d.err != nil:
		case d.next('}'):
			return members
		case !d.next(','):
			d.fail("unexpected %s, expected `,` or `}`", d.here())
		}
	}
	return nil
}

// digits steps over decimal digits and tells whether there was one.
func (d *jsonDecoder) digits() bool {
	from := d.at
	for d.at < len(d.text) && '0' <= d.text[d.at] && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at > from
}

func (d *jsonDecoder) number() any {
	from, integer := d.at, true
	d.next('-')
	if d.next('0') {
		if d.at < len(d.text) && '0' <= d.text[d.at] && d.text[d.at] <= '9' {
			d.fail("number with a leading zero")
			return nil
		}
	} else if !d.digits() {
		d.fail("unexpected %s, expected a digit", d.here())
		return nil
	}
	if d.next('.') {
		integer = false
		if !d.digits() {
			d.fail("unexpected %s, expected a digit", d.here())
			return nil
		}
	}
	if d.next('e') || d.next('E') {
		integer = false
		if !d.next('+') {
			d.next('-')
		}
		if !d.digits() {
			d.fail("unexpected %s, expected a digit", d.here())
			return nil
		}
	}
	literal := d.text[from:d.at]
	if integer {
		if i, err := strconv.ParseInt(literal, 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(literal, 10, 64); err == nil {
			return int64(u)
		}
	}
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil || math.IsInf(f, 0) {
		d.at = from
		d.fail("number `%s` is out of range", clip(literal, 40))
		return nil
	}
	return f
}

// str reads a string whose opening quote was read. Bytes that are no UTF-8 stay as they are.
func (d *jsonDecoder) str() string {
	var out []byte
	plain := d.at // start of bytes not yet copied
	for d.at < len(d.text) {
		switch c := d.text[d.at]; {
		case c == '"':
			text := d.text[plain:d.at]
			d.at++
			if out == nil {
				return text
			}
			return string(append(out, text...))
		case c == '\\':
			out = append(out, d.text[plain:d.at]...)
			out = d.escape(out)
			if d.err != nil {
				return ""
			}
			plain = d.at
		case c < ' ':
			d.fail("control character 0x%02x in a string (escape it)", c)
			return ""
		default:
			d.at++
		}
	}
	d.fail("unfinished string")
	return ""
}

// escape appends what the escape sequence the decoder stands at means.
func (d *jsonDecoder) escape(out []byte) []byte {
	if d.at+1 >= len(d.text) {
		d.fail("unfinished string")
		return out
	}
	c := d.text[d.at+1]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		d.at += 2
		return append(out, "\"\\/\b\f\n\r\t"[i])
	}
	if c != 'u' {
		d.fail("unknown escape sequence `\\%s`", printable(string(c)))
		return out
	}
	r, ok := d.unicode()
	if !ok {
		d.fail("bad escape sequence, expected four hexadecimal digits after `\\u`")
		return out
	}
	d.at += 6
	if utf16.IsSurrogate(r) {
		// Half a pair stands for no character; it becomes U+FFFD.
		second, ok := d.unicode()
		if pair := utf16.DecodeRune(r, second); ok && pair != utf8.RuneError {
			d.at += 6
			return utf8.AppendRune(out, pair)
		}
		r = utf8.RuneError
	}
	return utf8.AppendRune(out, r)
}

// unicode reads the \uXXXX the decoder stands at without stepping over it.
func (d *jsonDecoder) unicode() (rune, bool) {
	rest := d.text[d.at:]
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[2:6], 16, 16)
	return rune(n), err == nil
}
