package luajson

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"provium/internal/lua"
	"provium/internal/script/value"
)

// maxDepth limits nesting, so that hostile text cannot exhaust the stack.
const maxDepth = 1000

// A parsed JSON value is nil, bool, int64, float64, string, array or object.
type (
	array  []any
	object []member
	member struct {
		name  string
		value any
	}
)

// SyntaxError is returned by [Decode] for a text that is not valid JSON.
type SyntaxError struct {
	Reason       string
	Offset       int // in bytes, from 0
	Line, Column int // from 1; columns are bytes
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s at line %d column %d (byte %d)", e.Reason, e.Line, e.Column, e.Offset+1)
}

// Decode returns the Lua value of a JSON text. Integers of 64 bits are exact, those up to
// 2^64-1 keep their bits in an int64, and other numbers are floats. null becomes nil, so a
// field with it is absent. An invalid text is a [*SyntaxError].
func Decode(s *lua.State, text string) (lua.Value, error) {
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	return toLua(s, v), nil
}

// toLua converts a parsed value.
func toLua(s *lua.State, v any) lua.Value {
	switch v := v.(type) {
	case array:
		t := s.NewTable()
		for i, item := range v {
			if item != nil {
				value.MustSet(t, int64(i+1), toLua(s, item))
			}
		}
		return t
	case object:
		t := s.NewTable()
		for _, m := range v {
			value.MustSet(t, m.name, toLua(s, m.value))
		}
		return t
	default:
		return v
	}
}

// parse returns the one JSON value that text consists of.
func parse(text string) (any, error) {
	d := &decoder{text: text}
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

// decoder reads text once, from front to back. After the first error its methods do nothing
// of use and callers stop.
type decoder struct {
	text string
	at   int
	err  error
}

// fail sets the error, at the current position, unless there is one.
func (d *decoder) fail(format string, args ...any) {
	if d.err != nil {
		return
	}
	before := d.text[:d.at]
	d.err = &SyntaxError{
		Reason: fmt.Sprintf(format, args...),
		Offset: d.at,
		Line:   strings.Count(before, "\n") + 1,
		Column: d.at - strings.LastIndexByte(before, '\n'),
	}
}

// here describes the next character for messages.
func (d *decoder) here() string {
	if d.at >= len(d.text) {
		return "end of text"
	}
	r, size := utf8.DecodeRuneInString(d.text[d.at:])
	if r == utf8.RuneError && size == 1 || r < ' ' || r == 0x7f {
		return fmt.Sprintf("byte 0x%02x", d.text[d.at])
	}
	return fmt.Sprintf("`%c`", r)
}

// blank skips white space.
func (d *decoder) blank() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

// next skips the byte c and reports whether it was the next one.
func (d *decoder) next(c byte) bool {
	if d.at < len(d.text) && d.text[d.at] == c {
		d.at++
		return true
	}
	return false
}

// value parses a value with its leading white space.
func (d *decoder) value(depth int) any {
	d.blank()
	if depth > maxDepth {
		d.fail("nesting deeper than %d levels", maxDepth)
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

// word skips w and reports whether the text goes on with it.
func (d *decoder) word(w string) bool {
	if !strings.HasPrefix(d.text[d.at:], w) {
		return false
	}
	d.at += len(w)
	return true
}

// array parses an array after its opening bracket.
func (d *decoder) array(depth int) any {
	items := array{}
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

// object parses an object after its opening brace.
func (d *decoder) object(depth int) any {
	members := object{}
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
		members = append(members, member{name, d.value(depth + 1)})
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

// digits skips decimal digits and reports whether there was one.
func (d *decoder) digits() bool {
	from := d.at
	for d.at < len(d.text) && '0' <= d.text[d.at] && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at > from
}

// number parses a number, as strict as the grammar of JSON.
func (d *decoder) number() any {
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
		d.fail("number `%s` is out of range", value.Clip(literal, 40))
		return nil
	}
	return f
}

// str parses a string after its opening quote. Invalid UTF-8 stays as it is.
func (d *decoder) str() string {
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

// escape parses an escape sequence and appends its meaning to out.
func (d *decoder) escape(out []byte) []byte {
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
		d.fail("unknown escape sequence `\\%s`", value.Printable(string(c)))
		return out
	}
	r, ok := d.unicode()
	if !ok {
		d.fail("bad escape sequence, expected four hexadecimal digits after `\\u`")
		return out
	}
	d.at += 6
	if utf16.IsSurrogate(r) {
		// Half a pair is not a character. It becomes U+FFFD.
		second, ok := d.unicode()
		if pair := utf16.DecodeRune(r, second); ok && pair != utf8.RuneError {
			d.at += 6
			return utf8.AppendRune(out, pair)
		}
		r = utf8.RuneError
	}
	return utf8.AppendRune(out, r)
}

// unicode returns the value of the \uXXXX at the current position, without skipping it.
func (d *decoder) unicode() (rune, bool) {
	rest := d.text[d.at:]
	if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(rest[2:6], 16, 16)
	return rune(n), err == nil
}
