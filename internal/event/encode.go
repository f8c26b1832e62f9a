package event

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

const (
	// MaxFrame is the largest msgpack part of a frame, in bytes.
	MaxFrame = 16 << 20
	// maxText is the most one string of a payload may take; more is cut in the
	// middle, where a failure text or a log says least.
	maxText = 1 << 20
	// maxLog bounds all lines of a log together, and maxLogLines their number.
	maxLog      = 8 << 20
	maxLogLines = 100_000

	headerLen = 4
)

// ErrTooLarge is wrapped by errors about frames above [MaxFrame].
var ErrTooLarge = errors.New("frame too large")

// AppendFrame appends the frame of env to dst. Text that is not UTF-8 is
// escaped and overlong text cut, so that no result is lost to its own output;
// it fails only on a [Meta] with values of other types, or above [MaxFrame].
func AppendFrame(dst []byte, env Envelope) ([]byte, error) {
	if env.Event == nil {
		return dst, errors.New("event encode: no event")
	}
	start := len(dst)
	buf := bytes.NewBuffer(append(dst, 0, 0, 0, 0))
	e := &encoder{enc: msgpack.NewEncoder(buf)}
	e.enc.UseCompactInts(true)
	e.envelope(env)
	if e.err != nil {
		return dst, fmt.Errorf("event encode %s: %w", env.Event.Kind(), e.err)
	}
	out := buf.Bytes()
	n := len(out) - start - headerLen
	if n > MaxFrame {
		return dst, fmt.Errorf("event encode %s: %w (%d bytes, at most %d)", env.Event.Kind(), ErrTooLarge, n, MaxFrame)
	}
	binary.BigEndian.PutUint32(out[start:], uint32(n))
	return out, nil
}

// An Encoder writes frames to a stream, each with one Write. It is not safe
// for concurrent use.
type Encoder struct {
	w   io.Writer
	buf []byte
}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes the frame of env.
func (e *Encoder) Encode(env Envelope) error {
	var err error
	if e.buf, err = AppendFrame(e.buf[:0], env); err != nil {
		return err
	}
	if _, err = e.w.Write(e.buf); err != nil {
		return fmt.Errorf("event write: %w", err)
	}
	if cap(e.buf) > 1<<20 {
		e.buf = nil // one huge event must not pin its size for good
	}
	return nil
}

// encoder remembers the first error, so that the code below reads as a layout.
type encoder struct {
	enc *msgpack.Encoder
	err error
}

func (e *encoder) do(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) str(s string)  { e.do(e.enc.EncodeString(s)) }
func (e *encoder) mapLen(n int)  { e.do(e.enc.EncodeMapLen(n)) }
func (e *encoder) text(s string) { e.str(cutMiddle(validText(s), maxText)) }

func (e *encoder) envelope(env Envelope) {
	e.mapLen(3)
	e.str("ts")
	e.do(e.enc.EncodeInt(env.TS))
	e.str("kind")
	e.str(string(env.Event.Kind()))
	e.str("payload")
	e.structure(reflect.ValueOf(env.Event))
}

func (e *encoder) structure(v reflect.Value) {
	e.mapLen(v.NumField())
	for i := range v.NumField() {
		e.str(fieldName(v.Type(), i))
		e.field(v.Field(i))
	}
}

func (e *encoder) field(v reflect.Value) {
	switch x := v.Interface().(type) {
	case uint64:
		e.do(e.enc.EncodeUint(x))
	case uint32:
		e.do(e.enc.EncodeUint(uint64(x)))
	case Amount:
		e.structure(v)
	case *Amount:
		if x == nil {
			e.do(e.enc.EncodeNil())
		} else {
			e.structure(v.Elem())
		}
	case []string:
		x = clampLog(x)
		e.do(e.enc.EncodeArrayLen(len(x)))
		for _, s := range x {
			e.text(s)
		}
	case Meta:
		e.metaMap(x, 1)
	default:
		if !validEnum(x) {
			e.do(fmt.Errorf("invalid value %q", v.String()))
		}
		e.text(v.String())
	}
}

func (e *encoder) metaMap(m map[string]any, depth int) {
	e.mapLen(len(m))
	seen := make(map[string]bool, len(m)) // escaping could make two keys one
	for _, k := range sortedKeys(m) {
		key := validText(k)
		if seen[key] {
			e.do(fmt.Errorf("duplicate meta key %.80q", key))
		}
		seen[key] = true
		e.str(key)
		e.metaValue(m[k], depth)
	}
}

func (e *encoder) metaValue(v any, depth int) {
	if depth > MaxMetaDepth {
		e.do(errMetaDepth)
		return
	}
	switch v := v.(type) {
	case nil:
		e.do(e.enc.EncodeNil())
	case bool:
		e.do(e.enc.EncodeBool(v))
	case int64:
		e.do(e.enc.EncodeInt(v))
	case float64:
		e.do(e.enc.EncodeFloat64(v))
	case string:
		if utf8.ValidString(v) {
			e.str(v)
		} else {
			e.do(e.enc.EncodeBytes([]byte(v)))
		}
	case []byte:
		if v == nil {
			v = []byte{} // a nil slice would be encoded as nil
		}
		e.do(e.enc.EncodeBytes(v))
	case []any:
		e.do(e.enc.EncodeArrayLen(len(v)))
		for _, x := range v {
			e.metaValue(x, depth+1)
		}
	case map[string]any:
		e.metaMap(v, depth+1)
	default:
		e.do(fmt.Errorf("unsupported meta type %T", v))
	}
}

// clampLog bounds a log, keeping its start and saying what is missing.
func clampLog(lines []string) []string {
	total := 0
	for i, s := range lines {
		total += min(len(s), maxText)
		if total > maxLog || i >= maxLogLines {
			kept := append([]string(nil), lines[:i]...)
			return append(kept, fmt.Sprintf("[... %d more log entries cut]", len(lines)-i))
		}
	}
	return lines
}

// cutMiddle shortens s to at most limit bytes plus a mark, keeping both ends
// whole characters.
func cutMiddle(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	head, tail := limit/2, len(s)-limit/2
	for head > 0 && !utf8.RuneStart(s[head]) {
		head--
	}
	for tail < len(s) && !utf8.RuneStart(s[tail]) {
		tail++
	}
	return s[:head] + fmt.Sprintf("\n[... %d bytes cut ...]\n", tail-head) + s[tail:]
}
