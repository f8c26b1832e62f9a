package msgpack

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Decoder reads one message. Errors stick: after the first one every further
// read returns a zero value. Use NewDecoder.
type Decoder struct {
	b         []byte // what is left
	size      int    // of the message
	malformed error

	start  int // offset of the value that is being read
	values int // read so far
	limit  int // of values
	err    error
	at     int // offset of the value at fault
}

// NewDecoder returns a Decoder of a message, which must not change meanwhile.
// The errors of malformed bytes wrap malformed.
func NewDecoder(message []byte, malformed error) Decoder {
	return Decoder{b: message, size: len(message), malformed: malformed, limit: math.MaxInt}
}

// LimitValues sets how many values the message may have. Without it the size of
// the message is the limit.
func (d *Decoder) LimitValues(n int) { d.limit = n }

// OK reports whether there was no error so far.
func (d *Decoder) OK() bool { return d.err == nil }

// Err returns the first error.
func (d *Decoder) Err() error { return d.err }

// ErrOffset returns the offset of the value at which the first error was found.
func (d *Decoder) ErrOffset() int { return d.at }

// Start returns the offset of the value that was read last.
func (d *Decoder) Start() int { return d.start }

// Left returns how many bytes are left.
func (d *Decoder) Left() int { return len(d.b) }

// Fail stops the decoder: the message is malformed for a reason that the caller
// has found.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.FailAt(d.start, fmt.Errorf("%w: %s", d.malformed, fmt.Sprintf(format, args...)))
	}
}

// FailAt stops the decoder with any error, found at an offset.
func (d *Decoder) FailAt(at int, err error) {
	if d.err == nil {
		d.err, d.at = err, at
	}
	d.b = nil
}

// End returns the first error. Bytes behind the message are one.
func (d *Decoder) End() error {
	if d.err == nil && len(d.b) > 0 {
		d.start = d.size - len(d.b)
		d.Fail("%d bytes after the message", len(d.b))
	}
	return d.err
}

// Type is the type of a value.
type Type uint8

// The types.
const (
	Invalid Type = iota // also at the end of the message
	Nil
	Bool
	Int
	Float
	String
	Binary
	Array
	Map
)

// Peek returns the type of the next value without reading it.
func (d *Decoder) Peek() Type {
	if len(d.b) == 0 {
		return Invalid
	}
	return typeOf(d.b[0])
}

func typeOf(c byte) Type {
	switch {
	case c < 0x80 || c >= 0xe0 || c >= 0xcc && c <= 0xd3:
		return Int
	case c < 0x90 || c == 0xde || c == 0xdf:
		return Map
	case c < 0xa0 || c == 0xdc || c == 0xdd:
		return Array
	case c < 0xc0 || c >= 0xd9 && c <= 0xdb:
		return String
	case c == 0xc0:
		return Nil
	case c == 0xc2 || c == 0xc3:
		return Bool
	case c >= 0xc4 && c <= 0xc6:
		return Binary
	case c == 0xca || c == 0xcb:
		return Float
	}
	return Invalid
}

// head reads the type byte of the next value.
func (d *Decoder) head() byte {
	if d.err != nil {
		return 0
	}
	d.start = d.size - len(d.b)
	if len(d.b) == 0 {
		d.Fail("a value is missing, 0 bytes left")
		return 0
	}
	if d.values++; d.values > d.limit {
		d.Fail("more than %d values", d.limit)
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *Decoder) mismatch(want string, c byte) {
	d.Fail("expected %s, found type byte 0x%02x", want, c)
}

func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.Fail("length %d with %d bytes left", n, len(d.b))
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *Decoder) bigEndian(n int) uint64 {
	var v uint64
	for _, c := range d.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// count checks a length whose items take at least size bytes each, so that a
// forged one cannot make a caller allocate more than the message's size.
func (d *Decoder) count(n uint64, size int) int {
	if d.err != nil {
		return 0
	}
	if n > uint64(len(d.b)/size) {
		d.Fail("length %d with %d bytes left", n, len(d.b))
		return 0
	}
	return int(n)
}

// MapLen reads the header of a map and returns how many keys and values follow.
func (d *Decoder) MapLen() int {
	switch c := d.head(); {
	case d.err != nil:
	case c&0xf0 == 0x80:
		return d.count(uint64(c&0x0f), 2)
	case c == 0xde:
		return d.count(d.bigEndian(2), 2)
	case c == 0xdf:
		return d.count(d.bigEndian(4), 2)
	default:
		d.mismatch("a map", c)
	}
	return 0
}

// ArrayLen reads the header of an array and returns how many values follow.
func (d *Decoder) ArrayLen() int {
	switch c := d.head(); {
	case d.err != nil:
	case c&0xf0 == 0x90:
		return d.count(uint64(c&0x0f), 1)
	case c == 0xdc:
		return d.count(d.bigEndian(2), 1)
	case c == 0xdd:
		return d.count(d.bigEndian(4), 1)
	default:
		d.mismatch("an array", c)
	}
	return 0
}

// Raw reads a string or a binary. The result aliases the message.
func (d *Decoder) Raw() []byte {
	c := d.head()
	if d.err != nil {
		return nil
	}
	return d.raw(c, c, "a string or a binary")
}

// raw reads the length and the bytes of a value with a head of c. A string has
// str as head, a binary has bin; the other one is 0.
func (d *Decoder) raw(str, bin byte, want string) []byte {
	var n uint64
	switch {
	case str&0xe0 == 0xa0:
		n = uint64(str & 0x1f)
	case str == 0xd9 || bin == 0xc4:
		n = d.bigEndian(1)
	case str == 0xda || bin == 0xc5:
		n = d.bigEndian(2)
	case str == 0xdb || bin == 0xc6:
		n = d.bigEndian(4)
	default:
		d.mismatch(want, max(str, bin))
		return nil
	}
	return d.take(d.count(n, 1))
}

// Str reads a string or a binary as a string of any bytes.
func (d *Decoder) Str() string { return string(d.Raw()) }

// Bytes reads a string or a binary, and copies it: it outlives the message. It
// returns nil for an empty one.
func (d *Decoder) Bytes() []byte {
	p := d.Raw()
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}

// Text reads a string, which must be UTF-8.
func (d *Decoder) Text() string { return d.TextLike("") }

// TextLike is Text where the string is probably likely, which then costs no allocation.
func (d *Decoder) TextLike(likely string) string {
	c := d.head()
	if d.err != nil {
		return ""
	}
	p := d.raw(c, 0, "a string")
	if string(p) == likely {
		return likely
	}
	if d.err == nil && !utf8.Valid(p) {
		d.Fail("string is not UTF-8")
		return ""
	}
	return string(p)
}

// Bin reads a binary. The result aliases the message.
func (d *Decoder) Bin() []byte {
	c := d.head()
	if d.err != nil {
		return nil
	}
	return d.raw(0, c, "a binary")
}

// integer reads any integer as its 64 bits and reports whether it is negative.
func (d *Decoder) integer() (v uint64, negative bool) {
	switch c := d.head(); {
	case d.err != nil:
	case c < 0x80:
		return uint64(c), false
	case c >= 0xe0:
		return uint64(int64(int8(c))), true
	case c >= 0xcc && c <= 0xcf:
		return d.bigEndian(1 << (c - 0xcc)), false
	case c >= 0xd0 && c <= 0xd3:
		width := 1 << (c - 0xd0)
		shift := 64 - 8*width
		s := int64(d.bigEndian(width)<<shift) >> shift
		return uint64(s), s < 0
	default:
		d.mismatch("an integer", c)
	}
	return 0, false
}

// Uint reads an integer, which must not be negative.
func (d *Decoder) Uint() uint64 {
	v, negative := d.integer()
	if negative {
		d.Fail("integer %d is negative", int64(v))
		return 0
	}
	return v
}

// UintUpTo reads an integer from 0 to limit.
func (d *Decoder) UintUpTo(limit uint64) uint64 {
	v := d.Uint()
	if v > limit {
		d.Fail("integer %d is above %d", v, limit)
		return 0
	}
	return v
}

// Uint32 reads an integer of 32 bits.
func (d *Decoder) Uint32() uint32 { return uint32(d.UintUpTo(math.MaxUint32)) }

// Int reads an integer.
func (d *Decoder) Int() int64 {
	v, negative := d.integer()
	if !negative && v > math.MaxInt64 {
		d.Fail("integer %d is above %d", v, int64(math.MaxInt64))
		return 0
	}
	return int64(v)
}

// Float reads a floating-point number.
func (d *Decoder) Float() float64 {
	switch c := d.head(); {
	case d.err != nil:
	case c == 0xca:
		return float64(math.Float32frombits(uint32(d.bigEndian(4))))
	case c == 0xcb:
		return math.Float64frombits(d.bigEndian(8))
	default:
		d.mismatch("a floating-point number", c)
	}
	return 0
}

// Bool reads a boolean.
func (d *Decoder) Bool() bool {
	switch c := d.head(); {
	case d.err != nil:
	case c == 0xc3:
		return true
	case c != 0xc2:
		d.mismatch("a boolean", c)
	}
	return false
}

// Nil reads a nil if that is the next value, and reports whether it was.
func (d *Decoder) Nil() bool {
	if d.Peek() != Nil {
		return false
	}
	d.head()
	return d.err == nil
}

// Strs reads an array of strings. It returns nil for an empty one.
func (d *Decoder) Strs() []string {
	n := d.ArrayLen()
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, d.Str())
	}
	return out
}

// EachField reads a map, handing each key to fn, which must read the value and
// report whether it knows the key. A key that it does not know is an error.
func (d *Decoder) EachField(what string, fn func(key string) bool) {
	n := d.MapLen()
	for i := 0; i < n && d.err == nil; i++ {
		key := d.Raw()
		if d.err == nil && !fn(string(key)) {
			d.Fail("unknown field %.40q of %s", key, what)
		}
	}
}
