package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrMalformed is what every decoder's error wraps: the bytes are not a
// message of this protocol.
var ErrMalformed = errors.New("malformed message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// The encoder is a handful of append functions: the agent is small and must
// start fast, so it carries no reflection-driven codec.

func appendMapHeader(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
}

func appendArrayHeader(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, 0x90|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendBin(b, p []byte) []byte {
	switch n := len(p); {
	case n < 1<<8:
		b = append(b, 0xc4, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xc5), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
	}
	return append(b, p...)
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<8:
		return append(b, 0xcc, byte(v))
	case v < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func appendNil(b []byte) []byte { return append(b, 0xc0) }

// fields builds a map whose size is known only once its optional fields have
// been decided on: at most 15 of them, so the header stays one byte.
type fields struct {
	b  []byte
	at int
}

func openFields(b []byte) fields { return fields{append(b, 0x80), len(b)} }

func (f *fields) key(k string) {
	f.b[f.at]++
	f.b = appendString(f.b, k)
}

func (f *fields) str(k, v string)        { f.key(k); f.b = appendString(f.b, v) }
func (f *fields) bin(k string, v []byte) { f.key(k); f.b = appendBin(f.b, v) }
func (f *fields) uint(k string, v uint64) {
	f.key(k)
	f.b = appendUint(f.b, v)
}
func (f *fields) int(k string, v int64) { f.key(k); f.b = appendInt(f.b, v) }
func (f *fields) bool(k string, v bool) { f.key(k); f.b = appendBool(f.b, v) }

func (f *fields) optStr(k, v string) {
	if v != "" {
		f.str(k, v)
	}
}

func (f *fields) optBin(k string, v []byte) {
	if len(v) > 0 {
		f.bin(k, v)
	}
}

func (f *fields) optUint(k string, v uint64) {
	if v != 0 {
		f.uint(k, v)
	}
}

func (f *fields) optBool(k string, v bool) {
	if v {
		f.bool(k, v)
	}
}

// decoder reads one message. Errors stick: after the first one every further
// read gives zero values, and err tells what went wrong.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = malformed(format, args...)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.b) {
		d.fail("%d bytes wanted, %d left", n, len(d.b))
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) bigEndian(n int) uint64 {
	var v uint64
	for _, c := range d.take(n) {
		v = v<<8 | uint64(c)
	}
	return v
}

// count reads a length whose items take at least min bytes each, so that a
// forged count cannot make a caller allocate more than the message's size.
func (d *decoder) count(n uint64, min int) int {
	if d.err != nil {
		return 0
	}
	if n > uint64(len(d.b)/min) {
		d.fail("count %d in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) mapHeader() int {
	switch c := d.byte(); {
	case d.err != nil:
		return 0
	case c&0xf0 == 0x80:
		return d.count(uint64(c&0x0f), 2)
	case c == 0xde:
		return d.count(d.bigEndian(2), 2)
	case c == 0xdf:
		return d.count(d.bigEndian(4), 2)
	default:
		d.fail("type 0x%02x where a map belongs", c)
	}
	return 0
}

func (d *decoder) arrayHeader() int {
	switch c := d.byte(); {
	case d.err != nil:
		return 0
	case c&0xf0 == 0x90:
		return d.count(uint64(c&0x0f), 1)
	case c == 0xdc:
		return d.count(d.bigEndian(2), 1)
	case c == 0xdd:
		return d.count(d.bigEndian(4), 1)
	default:
		d.fail("type 0x%02x where an array belongs", c)
	}
	return 0
}

// raw reads a string or a binary; it aliases the message.
func (d *decoder) raw() []byte {
	var n uint64
	switch c := d.byte(); {
	case d.err != nil:
		return nil
	case c&0xe0 == 0xa0:
		n = uint64(c & 0x1f)
	case c == 0xd9 || c == 0xc4:
		n = d.bigEndian(1)
	case c == 0xda || c == 0xc5:
		n = d.bigEndian(2)
	case c == 0xdb || c == 0xc6:
		n = d.bigEndian(4)
	default:
		d.fail("type 0x%02x where a string belongs", c)
		return nil
	}
	return d.take(d.count(n, 1))
}

func (d *decoder) string() string { return string(d.raw()) }

// bin copies, so that the result outlives the message's buffer.
func (d *decoder) bin() []byte {
	p := d.raw()
	if len(p) == 0 {
		return nil
	}
	return append([]byte(nil), p...)
}

// integer reads any integer as its 64 bits and says whether it is negative.
func (d *decoder) integer() (v uint64, negative bool) {
	switch c := d.byte(); {
	case d.err != nil:
		return 0, false
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
		d.fail("type 0x%02x where an integer belongs", c)
	}
	return 0, false
}

func (d *decoder) uint() uint64 {
	v, negative := d.integer()
	if negative {
		d.fail("negative number where an unsigned one belongs")
		return 0
	}
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uint()
	if v > math.MaxUint32 {
		d.fail("number %d exceeds 32 bits", v)
		return 0
	}
	return uint32(v)
}

func (d *decoder) int() int64 {
	v, negative := d.integer()
	if !negative && v > math.MaxInt64 {
		d.fail("number %d exceeds a signed 64-bit integer", v)
		return 0
	}
	return int64(v)
}

func (d *decoder) bool() bool {
	switch c := d.byte(); {
	case d.err != nil:
	case c == 0xc3:
		return true
	case c != 0xc2:
		d.fail("type 0x%02x where a boolean belongs", c)
	}
	return false
}

func (d *decoder) isNil() bool {
	if d.err == nil && len(d.b) > 0 && d.b[0] == 0xc0 {
		d.b = d.b[1:]
		return true
	}
	return false
}

func (d *decoder) strings() []string {
	n := d.arrayHeader()
	if n == 0 {
		return nil
	}
	out := make([]string, 0, n)
	for i := 0; i < n && d.err == nil; i++ {
		out = append(out, d.string())
	}
	return out
}

// eachField walks a map, handing the value of each key to fn, which must
// consume it. Keys this version does not know are an error: both sides are of
// one build.
func (d *decoder) eachField(what string, fn func(key string) bool) {
	n := d.mapHeader()
	for i := 0; i < n && d.err == nil; i++ {
		key := d.raw()
		if d.err == nil && !fn(string(key)) {
			d.fail("unknown field %.40q of %s", key, what)
		}
	}
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes after the message", len(d.b))
	}
	return d.err
}
