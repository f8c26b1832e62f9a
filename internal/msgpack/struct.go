package msgpack

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// AppendStruct appends v, a struct or a pointer to one, as a map of its exported
// fields. Fields that are zero or empty are left out. Possible are booleans,
// integers, strings, and slices, maps with strings as keys, pointers and structs
// of what is possible.
func AppendStruct(b []byte, v any) ([]byte, error) {
	x := reflect.Indirect(reflect.ValueOf(v))
	if x.Kind() != reflect.Struct {
		return b, fmt.Errorf("msgpack: %T is no struct", v)
	}
	return appendStruct(b, x)
}

func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

func appendStruct(b []byte, v reflect.Value) ([]byte, error) {
	n := 0
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() && !isEmpty(v.Field(i)) {
			n++
		}
	}
	b = AppendMapHeader(b, n)
	var err error
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || isEmpty(v.Field(i)) {
			continue
		}
		if b, err = appendValue(AppendString(b, field.Name), v.Field(i)); err != nil {
			return b, fmt.Errorf("%s: %w", field.Name, err)
		}
	}
	return b, nil
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	switch v.Kind() {
	case reflect.Bool:
		return AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return AppendInt(b, v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return AppendUint(b, v.Uint()), nil
	case reflect.String:
		return AppendString(b, v.String()), nil
	case reflect.Pointer:
		if v.IsNil() {
			return AppendNil(b), nil
		}
		return appendValue(b, v.Elem())
	case reflect.Struct:
		return appendStruct(b, v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return AppendBin(b, v.Bytes()), nil
		}
		b = AppendArrayHeader(b, v.Len())
		for i := range v.Len() {
			var err error
			if b, err = appendValue(b, v.Index(i)); err != nil {
				return b, err
			}
		}
		return b, nil
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			break
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
		b = AppendMapHeader(b, len(keys))
		for _, k := range keys {
			var err error
			if b, err = appendValue(AppendString(b, k.String()), v.MapIndex(k)); err != nil {
				return b, err
			}
		}
		return b, nil
	}
	return b, fmt.Errorf("msgpack: type %v is not possible", v.Type())
}

// Struct reads what AppendStruct has appended into the struct that v points to,
// which must be zero. Unknown and repeated fields are errors. Slices of bytes
// alias the message.
func (d *Decoder) Struct(v any) {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.Elem().Kind() != reflect.Struct {
		d.Fail("%T is no pointer to a struct", v)
		return
	}
	d.structure(p.Elem())
}

func (d *Decoder) structure(v reflect.Value) {
	seen := make(map[string]bool)
	d.EachField(v.Type().Name(), func(key string) bool {
		field, known := v.Type().FieldByName(key)
		if !known || !field.IsExported() || len(field.Index) != 1 {
			return false
		}
		if seen[key] {
			d.Fail("field `%s` twice in %s", key, v.Type().Name())
			return true
		}
		seen[key] = true
		d.value(v.FieldByIndex(field.Index))
		return true
	})
}

// prealloc bounds what a length alone allocates: an element may take far more
// memory than the byte that the message must have for it.
const prealloc = 64

func (d *Decoder) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(d.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := d.Int()
		if v.OverflowInt(n) {
			d.Fail("integer %d does not fit %v", n, v.Type())
			return
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n := d.Uint()
		if v.OverflowUint(n) {
			d.Fail("integer %d does not fit %v", n, v.Type())
			return
		}
		v.SetUint(n)
	case reflect.String:
		v.SetString(d.Str())
	case reflect.Pointer:
		if d.Nil() {
			return
		}
		p := reflect.New(v.Type().Elem())
		d.value(p.Elem())
		v.Set(p)
	case reflect.Struct:
		d.structure(v)
	case reflect.Slice:
		d.slice(v)
	case reflect.Map:
		d.mapOf(v)
	default:
		d.Fail("type %v is not possible", v.Type())
	}
}

func (d *Decoder) slice(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(d.Raw())
		return
	}
	n := d.ArrayLen()
	list := reflect.MakeSlice(v.Type(), 0, min(n, prealloc))
	for i := 0; i < n && d.OK(); i++ {
		x := reflect.New(v.Type().Elem()).Elem()
		d.value(x)
		list = reflect.Append(list, x)
	}
	v.Set(list)
}

func (d *Decoder) mapOf(v reflect.Value) {
	n := d.MapLen()
	m := reflect.MakeMapWithSize(v.Type(), min(n, prealloc))
	for i := 0; i < n && d.OK(); i++ {
		key := reflect.ValueOf(d.Str()).Convert(v.Type().Key())
		if m.MapIndex(key).IsValid() {
			d.Fail("key `%.40s` twice", key.String())
			return
		}
		x := reflect.New(v.Type().Elem()).Elem()
		d.value(x)
		m.SetMapIndex(key, x)
	}
	v.Set(m)
}
