package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// What a [DecodeError] can wrap, beside [ErrTooLarge].
var (
	// ErrTruncated marks a stream that ends within a frame, as after a crash.
	ErrTruncated = errors.New("truncated frame")
	// ErrUnknownKind marks a kind that this version does not have.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrUnknownField marks a map key that this version does not have.
	ErrUnknownField = errors.New("unknown field")
	// ErrMalformed marks bytes that are no event frame.
	ErrMalformed = errors.New("malformed frame")
)

// maxNodes bounds the values of one frame: a one-byte array element takes
// sixteen bytes once decoded.
const maxNodes = 1 << 20

// DecodeError is what is wrong with a stream, and where.
type DecodeError struct {
	// Offset is the position in the stream, in bytes.
	Offset int64
	// Frame is where the frame at fault starts.
	Frame int64
	// Err wraps one of ErrTruncated, ErrTooLarge, ErrUnknownKind,
	// ErrUnknownField and ErrMalformed, or is a read error.
	Err error
}

// Error implements error.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("event decode at offset %d: %v", e.Offset, e.Err)
}

// Unwrap returns the cause.
func (e *DecodeError) Unwrap() error { return e.Err }

// A Decoder reads frames from a stream. It is not safe for concurrent use.
type Decoder struct {
	r      io.Reader
	offset int64
}

// NewDecoder returns a decoder that reads from r, which should be buffered:
// each frame takes at least two reads.
func NewDecoder(r io.Reader) *Decoder { return &Decoder{r: r} }

// Decode returns the next event. At the end of the stream it returns io.EOF,
// and inside a frame a *DecodeError that wraps ErrTruncated. After a
// *DecodeError that wraps ErrUnknownKind, ErrUnknownField or ErrMalformed the
// decoder stands behind the frame at fault, and the caller may go on.
func (d *Decoder) Decode() (Envelope, error) {
	fail := func(at int64, err error) (Envelope, error) {
		return Envelope{}, &DecodeError{Offset: at, Frame: d.offset, Err: err}
	}
	var head [headerLen]byte
	if n, err := io.ReadFull(d.r, head[:]); err != nil {
		if n == 0 && err == io.EOF {
			return Envelope{}, io.EOF
		}
		if err == io.ErrUnexpectedEOF {
			return fail(d.offset, fmt.Errorf("%w: %d of %d header bytes", ErrTruncated, n, headerLen))
		}
		return fail(d.offset+int64(n), fmt.Errorf("event read: %w", err))
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	if size > MaxFrame {
		return fail(d.offset, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, MaxFrame))
	}
	// Grown while reading: a length alone must not allocate.
	var body bytes.Buffer
	if n, err := io.CopyN(&body, d.r, size); err != nil {
		if err == io.EOF {
			return fail(d.offset, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, n, size))
		}
		return fail(d.offset+headerLen+n, fmt.Errorf("event read: %w", err))
	}
	env, at, err := decodeBody(body.Bytes())
	if err != nil {
		at += d.offset + headerLen
		_, err = fail(at, err)
		d.offset += headerLen + size
		return Envelope{}, err
	}
	d.offset += headerLen + size
	return env, nil
}

// decodeBody decodes the msgpack part of a frame; at is where an error is.
func decodeBody(b []byte) (env Envelope, at int64, err error) {
	r := bytes.NewReader(b)
	d := &decoder{r: r, size: len(b), dec: msgpack.NewDecoder(r)}
	env = d.envelope()
	if d.err == nil && r.Len() > 0 {
		d.fail("%w: %d bytes after the event", ErrMalformed, r.Len())
	}
	if d.err != nil {
		return Envelope{}, d.at, d.err
	}
	return env, 0, nil
}

// decoder stops at its first error and remembers the place; after one, every
// method returns zero values.
type decoder struct {
	r     *bytes.Reader
	dec   *msgpack.Decoder
	size  int
	start int64 // of the value being read
	nodes int
	err   error
	at    int64
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err, d.at = fmt.Errorf(format, args...), d.start
	}
}

func (d *decoder) check(err error) {
	if err != nil {
		d.fail("%w: %v", ErrMalformed, err)
	}
}

// code peeks at the type of the next value.
func (d *decoder) code() byte {
	if d.err != nil {
		return 0
	}
	d.start = int64(d.size - d.r.Len())
	if d.nodes++; d.nodes > maxNodes {
		d.fail("%w: more than %d values", ErrMalformed, maxNodes)
		return 0
	}
	c, err := d.dec.PeekCode()
	d.check(err)
	return c
}

func (d *decoder) mismatch(want string, c byte) {
	d.fail("%w: expected %s, found type byte 0x%02x", ErrMalformed, want, c)
}

// fits checks a claimed length against what is left of the frame.
func (d *decoder) fits(n int) bool {
	if d.err == nil && (n < 0 || n > d.r.Len()) {
		d.fail("%w: length %d with %d bytes left", ErrMalformed, n, d.r.Len())
	}
	return d.err == nil
}

func isMap(c byte) bool {
	return msgpcode.IsFixedMap(c) || c == msgpcode.Map16 || c == msgpcode.Map32
}

func isArray(c byte) bool {
	return msgpcode.IsFixedArray(c) || c == msgpcode.Array16 || c == msgpcode.Array32
}

func isStr(c byte) bool {
	return msgpcode.IsFixedString(c) || c == msgpcode.Str8 || c == msgpcode.Str16 || c == msgpcode.Str32
}

func isInt(c byte) bool {
	return msgpcode.IsFixedNum(c) || (c >= msgpcode.Uint8 && c <= msgpcode.Int64)
}

func (d *decoder) mapLen() int {
	c := d.code()
	if d.err != nil {
		return 0
	}
	if !isMap(c) {
		d.mismatch("a map", c)
		return 0
	}
	n, err := d.dec.DecodeMapLen()
	d.check(err)
	if !d.fits(n) {
		return 0
	}
	return n
}

func (d *decoder) arrayLen() int {
	c := d.code()
	if d.err != nil {
		return 0
	}
	if !isArray(c) {
		d.mismatch("an array", c)
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	d.check(err)
	if !d.fits(n) {
		return 0
	}
	return n
}

func (d *decoder) str() string {
	c := d.code()
	if d.err != nil {
		return ""
	}
	if !isStr(c) {
		d.mismatch("a string", c)
		return ""
	}
	n, err := d.dec.DecodeBytesLen()
	d.check(err)
	b := d.take(n)
	if d.err == nil && !utf8.Valid(b) {
		d.fail("%w: string is not UTF-8", ErrMalformed)
		return ""
	}
	return string(b)
}

func (d *decoder) take(n int) []byte {
	if !d.fits(n) {
		return nil
	}
	b := make([]byte, n)
	d.check(d.dec.ReadFull(b))
	return b
}

// i64 reads an integer of any width; those above the signed range are errors.
func (d *decoder) i64() int64 {
	c := d.code()
	if d.err != nil {
		return 0
	}
	if !isInt(c) {
		d.mismatch("an integer", c)
		return 0
	}
	if c == msgpcode.Uint64 {
		if u := d.rawUint(); d.err != nil {
			return 0
		} else if u > math.MaxInt64 {
			d.fail("%w: integer %d is out of range", ErrMalformed, u)
			return 0
		} else {
			return int64(u)
		}
	}
	v, err := d.dec.DecodeInt64()
	d.check(err)
	return v
}

func (d *decoder) rawUint() uint64 {
	v, err := d.dec.DecodeUint64()
	d.check(err)
	return v
}

func (d *decoder) uint(limit uint64) uint64 {
	c := d.code()
	if d.err != nil {
		return 0
	}
	if c == msgpcode.Uint64 {
		v := d.rawUint()
		if d.err == nil && v > limit {
			d.fail("%w: integer %d is above %d", ErrMalformed, v, limit)
		}
		return v
	}
	d.nodes--
	v := d.i64()
	if d.err == nil && (v < 0 || uint64(v) > limit) {
		d.fail("%w: integer %d is not within 0 and %d", ErrMalformed, v, limit)
	}
	return uint64(v)
}

// envelope wants the kind before the payload, which is how frames are written.
func (d *decoder) envelope() Envelope {
	var env Envelope
	var ts bool
	var kind Kind
	n := d.mapLen()
	for range n {
		key := d.str()
		if d.err != nil {
			return Envelope{}
		}
		switch {
		case key == "ts" && !ts:
			env.TS, ts = d.i64(), true
		case key == "kind" && kind == "":
			kind = Kind(d.str())
			if d.err == nil && zeroEvent(kind) == nil {
				d.fail("%w `%.40s`", ErrUnknownKind, kind)
			}
		case key == "payload" && kind == "":
			d.fail("%w: payload before kind", ErrMalformed)
		case key == "payload" && env.Event == nil:
			env.Event = d.payload(kind)
		case key == "ts" || key == "kind" || key == "payload":
			d.fail("%w: `%s` twice", ErrMalformed, key)
		default:
			d.fail("%w `%.40s` in the frame (valid: ts, kind, payload)", ErrUnknownField, key)
		}
	}
	if d.err == nil && (!ts || env.Event == nil) {
		d.fail("%w: ts, kind or payload is missing", ErrMalformed)
	}
	return env
}

func (d *decoder) payload(k Kind) Event {
	v := reflect.New(reflect.TypeOf(zeroEvent(k))).Elem()
	d.structure(v, string(k))
	if d.err != nil {
		return nil
	}
	return v.Interface().(Event)
}

// structure fills a struct; every field must be there once.
func (d *decoder) structure(v reflect.Value, what string) {
	n := d.mapLen()
	whole := d.start
	var seen uint64
	for range n {
		key := d.str()
		if d.err != nil {
			return
		}
		i := fieldIndex(v.Type(), key)
		if i < 0 {
			d.fail("%w `%.40s` in %s", ErrUnknownField, key, what)
			return
		}
		if seen&(1<<i) != 0 {
			d.fail("%w: field `%s` twice in %s", ErrMalformed, key, what)
			return
		}
		seen |= 1 << i
		d.field(v.Field(i), what+"."+key)
	}
	for i := range v.NumField() {
		if d.err == nil && seen&(1<<i) == 0 {
			d.start = whole
			d.fail("%w: field `%s` is missing in %s", ErrMalformed, fieldName(v.Type(), i), what)
		}
	}
}

func (d *decoder) field(v reflect.Value, what string) {
	switch v.Interface().(type) {
	case uint64:
		v.SetUint(d.uint(math.MaxUint64))
	case uint32:
		v.SetUint(d.uint(math.MaxUint32))
	case Amount:
		d.structure(v, what)
	case *Amount:
		if d.code() == msgpcode.Nil && d.err == nil {
			d.check(d.dec.DecodeNil())
			return
		}
		p := reflect.New(reflect.TypeOf(Amount{}))
		d.structure(p.Elem(), what)
		v.Set(p)
	case []string:
		n := d.arrayLen()
		list := make([]string, 0, min(n, 1024))
		for range n {
			s := d.str()
			if d.err != nil {
				return
			}
			list = append(list, s)
		}
		v.Set(reflect.ValueOf(list))
	case Meta:
		v.Set(reflect.ValueOf(Meta(d.metaMap(1))))
	default:
		v.SetString(d.str())
		if d.err == nil && !validEnum(v.Interface()) {
			d.fail("%w: %s is `%.40s`", ErrMalformed, what, v.String())
		}
	}
}

func (d *decoder) metaMap(depth int) map[string]any {
	n := d.mapLen()
	m := make(map[string]any, min(n, 64))
	for range n {
		key := d.str()
		if d.err != nil {
			return nil
		}
		if _, dup := m[key]; dup {
			d.fail("%w: meta key `%.40s` twice", ErrMalformed, key)
			return nil
		}
		m[key] = d.metaValue(depth)
	}
	return m
}

func (d *decoder) metaValue(depth int) any {
	c := d.code()
	if d.err == nil && depth > MaxMetaDepth {
		d.fail("%w: meta is nested deeper than %d levels", ErrMalformed, MaxMetaDepth)
	}
	if d.err != nil {
		return nil
	}
	switch {
	case isInt(c), isStr(c), isArray(c), isMap(c):
		d.nodes-- // counted again by the reader of the value
	}
	switch {
	case c == msgpcode.Nil:
		d.check(d.dec.DecodeNil())
		return nil
	case c == msgpcode.True, c == msgpcode.False:
		b, err := d.dec.DecodeBool()
		d.check(err)
		return b
	case c == msgpcode.Float, c == msgpcode.Double:
		f, err := d.dec.DecodeFloat64()
		d.check(err)
		return f
	case isInt(c):
		return d.i64()
	case isStr(c):
		return d.str()
	case c == msgpcode.Bin8, c == msgpcode.Bin16, c == msgpcode.Bin32:
		n, err := d.dec.DecodeBytesLen()
		d.check(err)
		return d.take(n)
	case isArray(c):
		n := d.arrayLen()
		list := make([]any, 0, min(n, 1024))
		for range n {
			v := d.metaValue(depth + 1)
			if d.err != nil {
				return nil
			}
			list = append(list, v)
		}
		return list
	case isMap(c):
		return d.metaMap(depth + 1)
	}
	d.mismatch("a meta value", c)
	return nil
}
