package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"

	"provium/internal/msgpack"
)

// What a [DecodeError] can wrap, beside [ErrTooLarge].
var (
	// ErrTruncated marks a stream that ends within a frame, as after a crash.
	ErrTruncated = errors.New("truncated frame")
	// ErrUnknownKind marks a kind that this version does not have.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrUnknownField marks a map key that this version does not have.
	ErrUnknownField = errors.New("unknown field")
	// ErrMalformed marks bytes that are not an event frame.
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
	text := fmt.Sprintf("event decode at offset %d: %v", e.Offset, e.Err)
	if e.Offset == 0 && errors.Is(e.Err, ErrTooLarge) {
		text += ": it is no event stream"
	}
	return text
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
	d := newDecoder(b)
	env = d.envelope()
	if err := d.End(); err != nil {
		return Envelope{}, int64(d.ErrOffset()), err
	}
	return env, 0, nil
}

// DecodePayload decodes what [EncodePayload] returned for an event of a kind.
func DecodePayload(kind Kind, payload []byte) (Event, error) {
	if zeroEvent(kind) == nil {
		return nil, fmt.Errorf("%w `%.40s`", ErrUnknownKind, kind)
	}
	d := newDecoder(payload)
	e := d.payload(kind)
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("event decode %s at offset %d: %w", kind, d.ErrOffset(), err)
	}
	return e, nil
}

// decoder reads the msgpack part of a frame. It stops at its first error; after
// one, every method returns zero values.
type decoder struct{ msgpack.Decoder }

func newDecoder(b []byte) *decoder {
	d := &decoder{msgpack.NewDecoder(b, ErrMalformed)}
	d.LimitValues(maxNodes)
	return d
}

// fail stops with one of the errors that are not ErrMalformed.
func (d *decoder) fail(err error, format string, args ...any) {
	d.FailAt(d.Start(), fmt.Errorf("%w "+format, append([]any{err}, args...)...))
}

// envelope wants the kind before the payload, which is how frames are written.
func (d *decoder) envelope() Envelope {
	var env Envelope
	var ts bool
	var kind Kind
	n := d.MapLen()
	for range n {
		key := d.Text()
		if !d.OK() {
			return Envelope{}
		}
		switch {
		case key == "ts" && !ts:
			env.TS, ts = d.Int(), true
		case key == "kind" && kind == "":
			kind = Kind(d.Text())
			if d.OK() && zeroEvent(kind) == nil {
				d.fail(ErrUnknownKind, "`%.40s`", kind)
			}
		case key == "payload" && kind == "":
			d.Fail("payload before kind")
		case key == "payload" && env.Event == nil:
			env.Event = d.payload(kind)
		case key == "ts" || key == "kind" || key == "payload":
			d.Fail("`%s` twice", key)
		default:
			d.fail(ErrUnknownField, "`%.40s` in the frame (valid: ts, kind, payload)", key)
		}
	}
	if d.OK() && (!ts || env.Event == nil) {
		d.Fail("ts, kind or payload is missing")
	}
	return env
}

func (d *decoder) payload(k Kind) Event {
	v := reflect.New(reflect.TypeOf(zeroEvent(k))).Elem()
	d.structure(v, string(k))
	if !d.OK() {
		return nil
	}
	return v.Interface().(Event)
}

// structure fills a struct; every field must be there once.
func (d *decoder) structure(v reflect.Value, what string) {
	n := d.MapLen()
	whole := d.Start()
	fields := shapeOf(v.Type())
	var seen uint64
	for next := range n {
		key := d.TextLike(fields.likely(next))
		if !d.OK() {
			return
		}
		i := fields.index(key, next)
		if i < 0 {
			d.fail(ErrUnknownField, "`%.40s` in %s", key, what)
			return
		}
		if seen&(1<<i) != 0 {
			d.Fail("field `%s` twice in %s", key, what)
			return
		}
		seen |= 1 << i
		d.field(v.Field(i), what, key)
	}
	for i, name := range fields.names {
		if d.OK() && seen&(1<<i) == 0 {
			d.FailAt(whole, fmt.Errorf("%w: field `%s` is missing in %s", ErrMalformed, name, what))
		}
	}
}

// field fills the field of that key in what.
func (d *decoder) field(v reflect.Value, what, key string) {
	switch to := v.Addr().Interface().(type) {
	case *string:
		*to = d.Text()
	case *uint64:
		*to = d.Uint()
	case *uint32:
		*to = d.Uint32()
	case *int64:
		*to = d.Int()
	case **int64:
		if !d.Nil() {
			n := d.Int()
			*to = &n
		}
	case *bool:
		*to = d.Bool()
	case *[]byte:
		*to = bytes.Clone(d.Bin())
	case *Amount:
		d.structure(v, what+"."+key)
	case **Amount:
		if d.Nil() {
			return
		}
		*to = &Amount{}
		d.structure(v.Elem(), what+"."+key)
	case *[]string:
		*to = d.texts()
	case *Meta:
		*to = d.metaMap(1)
	default: // a named string
		v.SetString(d.Text())
		if d.OK() && !validEnum(v.Interface()) {
			d.Fail("%s.%s is `%.40s`", what, key, v.String())
		}
	}
}

// texts reads an array of strings.
func (d *decoder) texts() []string {
	n := d.ArrayLen()
	list := make([]string, 0, min(n, 1024))
	for range n {
		s := d.Text()
		if !d.OK() {
			return nil
		}
		list = append(list, s)
	}
	return list
}

func (d *decoder) metaMap(depth int) map[string]any {
	n := d.MapLen()
	m := make(map[string]any, min(n, 64))
	for range n {
		key := d.Text()
		if !d.OK() {
			return nil
		}
		if _, dup := m[key]; dup {
			d.Fail("meta key `%.40s` twice", key)
			return nil
		}
		m[key] = d.metaValue(depth)
	}
	return m
}

func (d *decoder) metaValue(depth int) any {
	if depth > MaxMetaDepth {
		d.Fail("meta is nested deeper than %d levels", MaxMetaDepth)
		return nil
	}
	switch d.Peek() {
	case msgpack.Nil:
		d.Nil()
		return nil
	case msgpack.Bool:
		return d.Bool()
	case msgpack.Float:
		return d.Float()
	case msgpack.Int:
		return d.Int()
	case msgpack.String:
		return d.Text()
	case msgpack.Binary:
		return bytes.Clone(d.Bin())
	case msgpack.Array:
		n := d.ArrayLen()
		list := make([]any, 0, min(n, 1024))
		for range n {
			v := d.metaValue(depth + 1)
			if !d.OK() {
				return nil
			}
			list = append(list, v)
		}
		return list
	case msgpack.Map:
		return d.metaMap(depth + 1)
	}
	d.Fail("no meta value")
	return nil
}
