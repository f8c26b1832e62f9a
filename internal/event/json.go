package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// MarshalJSON returns the event as one line, for people who look into a stream. It
// has the same keys as on the wire. Bytes become base64, in meta {"bytes": base64}, and
// NaN and infinities strings, since JSON has neither. [NewReader] reads such lines.
func (env Envelope) MarshalJSON() ([]byte, error) {
	if env.Event == nil {
		return nil, fmt.Errorf("event encode: no event")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"ts":%d,"kind":"%s","payload":`, env.TS, env.Event.Kind())
	if err := jsonStruct(&b, reflect.ValueOf(env.Event)); err != nil {
		return nil, fmt.Errorf("event encode %s: %w", env.Event.Kind(), err)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func jsonStruct(b *bytes.Buffer, v reflect.Value) error {
	for i := range v.NumField() {
		b.WriteByte("{,"[min(i, 1)])
		fmt.Fprintf(b, "%q:", shapeOf(v.Type()).names[i])
		f := v.Field(i)
		switch x := f.Interface().(type) {
		case Amount:
			if err := jsonStruct(b, f); err != nil {
				return err
			}
			continue
		case *Amount:
			if x != nil {
				if err := jsonStruct(b, f.Elem()); err != nil {
					return err
				}
				continue
			}
		case Meta:
			f = reflect.ValueOf(jsonMap(x))
		case []string:
			texts := []string{}
			for _, text := range clampLog(x) {
				texts = append(texts, cutMiddle(validText(text), maxText))
			}
			f = reflect.ValueOf(texts)
		case string:
			f = reflect.ValueOf(cutMiddle(validText(x), maxText))
		case []byte:
			f = reflect.ValueOf(append([]byte{}, x[:min(len(x), MaxAttachment)]...))
		}
		enc, err := json.Marshal(f.Interface())
		if err != nil {
			return err
		}
		b.Write(enc)
	}
	b.WriteByte('}')
	return nil
}

func jsonMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = jsonValue(v)
	}
	return out
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return map[string]any{"bytes": v}
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Sprint(v)
		}
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0" // not an integer
		}
		return json.Number(text)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = jsonValue(x)
		}
		return out
	case map[string]any:
		return jsonMap(v)
	}
	return v
}
