package event

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"provium/internal/jsonerror"
)

// Reader reads the events of a stream, one after the other. Its errors are io.EOF at the
// end of the stream, and those of [Decoder.Decode].
type Reader interface {
	Decode() (Envelope, error)
}

// NewReader returns a reader of a stream in either format, which it tells by the first
// byte.
func NewReader(r io.Reader) Reader {
	b := bufio.NewReaderSize(r, 64<<10)
	if first, err := b.Peek(1); err == nil && first[0] == '{' {
		return &lineDecoder{r: b}
	}
	return NewDecoder(b)
}

// maxLine bounds a line of JSON, which is longer than the frame of the same event.
const maxLine = 6 * MaxFrame

// lineDecoder reads lines of JSON. NaN and infinities in meta, which JSON does not have,
// stay strings.
type lineDecoder struct {
	r      *bufio.Reader
	offset int64
}

// Decode implements [Reader].
func (d *lineDecoder) Decode() (Envelope, error) {
	line, err := d.line()
	if len(line) == 0 && err == io.EOF {
		return Envelope{}, io.EOF
	}
	start := d.offset
	d.offset += int64(len(line))
	fail := func(err error) (Envelope, error) {
		return Envelope{}, &DecodeError{Offset: start, Frame: start, Err: err}
	}
	if err != nil && err != io.EOF {
		return fail(err)
	}
	env, bad := decodeLine(line)
	if bad != nil && err == io.EOF {
		return fail(fmt.Errorf("%w: a line of %d bytes without an end", ErrTruncated, len(line)))
	}
	if bad != nil {
		return fail(bad)
	}
	return env, nil
}

// line returns the next line with its end, or what follows the last one with io.EOF.
func (d *lineDecoder) line() ([]byte, error) {
	var line []byte
	for {
		part, err := d.r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return line, fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, maxLine)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

func decodeLine(line []byte) (Envelope, error) {
	var raw struct {
		TS      *int64           `json:"ts"`
		Kind    Kind             `json:"kind"`
		Payload *json.RawMessage `json:"payload"`
	}
	if err := strict(line, &raw); err != nil {
		return Envelope{}, err
	}
	if raw.TS == nil || raw.Payload == nil {
		return Envelope{}, fmt.Errorf("%w: ts, kind or payload is missing", ErrMalformed)
	}
	zero := zeroEvent(raw.Kind)
	if zero == nil {
		return Envelope{}, fmt.Errorf("%w `%.40s`", ErrUnknownKind, raw.Kind)
	}
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	if err := fromJSON(*raw.Payload, v, string(raw.Kind)); err != nil {
		return Envelope{}, err
	}
	return Envelope{TS: *raw.TS, Event: v.Interface().(Event)}, nil
}

// strict decodes JSON into to, and wraps ErrMalformed.
func strict(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, jsonerror.Plain(err))
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: more than one value", ErrMalformed)
	}
	return nil
}

// fromJSON fills a struct; every field must be there.
func fromJSON(text []byte, v reflect.Value, what string) error {
	var fields map[string]json.RawMessage
	if err := strict(text, &fields); err != nil {
		return err
	}
	for i := range v.NumField() {
		name := shapeOf(v.Type()).names[i]
		field, ok := fields[name]
		if !ok {
			return fmt.Errorf("%w: field `%s` is missing in %s", ErrMalformed, name, what)
		}
		delete(fields, name)
		if err := fieldFromJSON(field, v.Field(i), what+"."+name); err != nil {
			return err
		}
	}
	for name := range fields {
		return fmt.Errorf("%w `%.40s` in %s", ErrUnknownField, name, what)
	}
	return nil
}

func fieldFromJSON(text []byte, v reflect.Value, what string) error {
	switch v.Interface().(type) {
	case Amount:
		return fromJSON(text, v, what)
	case *Amount:
		if string(text) == "null" {
			return nil
		}
		p := reflect.New(reflect.TypeOf(Amount{}))
		v.Set(p)
		return fromJSON(text, p.Elem(), what)
	case Meta:
		m := map[string]any{}
		if err := strict(text, &m); err != nil {
			return err
		}
		meta, err := metaFromJSON(m, 1)
		if err != nil {
			return err
		}
		v.Set(reflect.ValueOf(Meta(meta.(map[string]any))))
		return nil
	}
	if err := strict(text, v.Addr().Interface()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if !validEnum(v.Interface()) {
		return fmt.Errorf("%w: %s is `%.40s`", ErrMalformed, what, v.String())
	}
	return nil
}

// metaFromJSON undoes jsonValue.
func metaFromJSON(v any, depth int) (any, error) {
	if depth > MaxMetaDepth+1 {
		return nil, fmt.Errorf("%w: meta is nested deeper than %d levels", ErrMalformed, MaxMetaDepth)
	}
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil && !strings.ContainsAny(v.String(), ".eE") {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		return f, nil
	case []any:
		for i := range v {
			var err error
			if v[i], err = metaFromJSON(v[i], depth+1); err != nil {
				return nil, err
			}
		}
		return v, nil
	case map[string]any:
		if text, ok := v["bytes"].(string); ok && len(v) == 1 && depth > 1 {
			if b, err := base64.StdEncoding.DecodeString(text); err == nil {
				return b, nil
			}
		}
		for k := range v {
			if !utf8.ValidString(k) {
				return nil, fmt.Errorf("%w: a key is not UTF-8", ErrMalformed)
			}
			var err error
			if v[k], err = metaFromJSON(v[k], depth+1); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	return v, nil
}
