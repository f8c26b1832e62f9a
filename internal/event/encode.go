package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"provium/internal/msgpack"
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
	// MaxAttachment is how many bytes of an attachment go into the stream.
	MaxAttachment = 8 << 20

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
	kind := env.Event.Kind()
	out := append(dst, 0, 0, 0, 0)
	out = msgpack.AppendMapHeader(out, 3)
	out = msgpack.AppendInt(msgpack.AppendString(out, "ts"), env.TS)
	out = msgpack.AppendString(msgpack.AppendString(out, "kind"), string(kind))
	out = msgpack.AppendString(out, "payload")
	if env.payload != nil {
		out = append(out, env.payload...)
	} else {
		var err error
		if out, err = appendPayload(out, env.Event); err != nil {
			return dst, err
		}
	}
	n := len(out) - len(dst) - headerLen
	if n > MaxFrame {
		return dst, errTooLarge(kind, n)
	}
	binary.BigEndian.PutUint32(out[len(dst):], uint32(n))
	return out, nil
}

func errTooLarge(k Kind, size int) error {
	return fmt.Errorf("event encode %s: %w (%d bytes, at most %d)", k, ErrTooLarge, size, MaxFrame)
}

// envelopeLen is how many bytes of a frame's msgpack part are not its payload, at
// most.
const envelopeLen = 64

// EncodePayload returns the payload of e as it stands in a frame, for
// [Bus.Forward]. It fails as AppendFrame does.
func EncodePayload(e Event) ([]byte, error) {
	b, err := appendPayload(nil, e)
	if err == nil && len(b) > MaxFrame-envelopeLen {
		err = errTooLarge(e.Kind(), len(b)+envelopeLen)
	}
	return b, err
}

func appendPayload(b []byte, event Event) ([]byte, error) {
	e := &encoder{b: b}
	e.structure(reflect.ValueOf(event))
	if e.err != nil {
		return nil, fmt.Errorf("event encode %s: %w", event.Kind(), e.err)
	}
	return e.b, nil
}

// encoder appends to b and remembers the first error, so that the code below reads
// as a layout.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) str(s string)  { e.b = msgpack.AppendString(e.b, s) }
func (e *encoder) mapLen(n int)  { e.b = msgpack.AppendMapHeader(e.b, n) }
func (e *encoder) text(s string) { e.str(Text(s)) }

// Text returns s as readers of events get it: as valid UTF-8, and not longer than texts may be.
func Text(s string) string { return cutMiddle(validText(s), maxText) }

func (e *encoder) structure(v reflect.Value) {
	names := shapeOf(v.Type()).names
	e.mapLen(len(names))
	for i, name := range names {
		e.str(name)
		e.field(v.Field(i))
	}
}

func (e *encoder) field(v reflect.Value) {
	switch x := v.Interface().(type) {
	case string:
		e.text(x)
	case uint64:
		e.b = msgpack.AppendUint(e.b, x)
	case uint32:
		e.b = msgpack.AppendUint(e.b, uint64(x))
	case int64:
		e.b = msgpack.AppendInt(e.b, x)
	case *int64:
		if x == nil {
			e.b = msgpack.AppendNil(e.b)
		} else {
			e.b = msgpack.AppendInt(e.b, *x)
		}
	case bool:
		e.b = msgpack.AppendBool(e.b, x)
	case []byte:
		e.b = msgpack.AppendBin(e.b, x[:min(len(x), MaxAttachment)])
	case Amount:
		e.structure(v)
	case *Amount:
		if x == nil {
			e.b = msgpack.AppendNil(e.b)
		} else {
			e.structure(v.Elem())
		}
	case []string:
		x = clampLog(x)
		e.b = msgpack.AppendArrayHeader(e.b, len(x))
		for _, s := range x {
			e.text(s)
		}
	case Meta:
		e.metaMap(x, 1)
	default:
		if !validEnum(x) {
			e.fail(fmt.Errorf("invalid value %q", v.String()))
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
			e.fail(fmt.Errorf("duplicate meta key %.80q", key))
		}
		seen[key] = true
		e.str(key)
		e.metaValue(m[k], depth)
	}
}

func (e *encoder) metaValue(v any, depth int) {
	if depth > MaxMetaDepth {
		e.fail(errMetaDepth)
		return
	}
	switch v := v.(type) {
	case nil:
		e.b = msgpack.AppendNil(e.b)
	case bool:
		e.b = msgpack.AppendBool(e.b, v)
	case int64:
		e.b = msgpack.AppendInt(e.b, v)
	case float64:
		e.b = msgpack.AppendFloat(e.b, v)
	case string:
		if utf8.ValidString(v) {
			e.str(v)
		} else {
			e.b = msgpack.AppendBin(e.b, []byte(v))
		}
	case []byte:
		e.b = msgpack.AppendBin(e.b, v)
	case []any:
		e.b = msgpack.AppendArrayHeader(e.b, len(v))
		for _, x := range v {
			e.metaValue(x, depth+1)
		}
	case map[string]any:
		e.metaMap(v, depth+1)
	default:
		e.fail(fmt.Errorf("unsupported meta type %T", v))
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
