package msgpack

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

var errBad = errors.New("bad")

// tree reads any value as nil, bool, int64, uint64 (above int64), float64, string,
// []byte, []any or []pair, which keeps the order of keys.
func tree(d *Decoder, depth int) any {
	if depth > 64 {
		d.Fail("nested too deeply")
		return nil
	}
	switch d.Peek() {
	case Nil:
		d.Nil()
		return nil
	case Bool:
		return d.Bool()
	case Int:
		if v, negative := d.integer(); negative || v <= math.MaxInt64 {
			return int64(v)
		} else {
			return v
		}
	case Float:
		return d.Float()
	case String:
		return d.Text()
	case Binary:
		return bytes.Clone(d.Bin())
	case Array:
		list := []any{}
		for n := d.ArrayLen(); n > 0 && d.OK(); n-- {
			list = append(list, tree(d, depth+1))
		}
		return list
	case Map:
		pairs := []pair{}
		for n := d.MapLen(); n > 0 && d.OK(); n-- {
			pairs = append(pairs, pair{tree(d, depth+1), tree(d, depth+1)})
		}
		return pairs
	}
	d.Fail("no value")
	return nil
}

type pair struct{ key, value any }

func appendTree(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return AppendNil(b)
	case bool:
		return AppendBool(b, v)
	case int64:
		return AppendInt(b, v)
	case uint64:
		return AppendUint(b, v)
	case float64:
		return AppendFloat(b, v)
	case string:
		return AppendString(b, v)
	case []byte:
		return AppendBin(b, v)
	case []any:
		b = AppendArrayHeader(b, len(v))
		for _, x := range v {
			b = appendTree(b, x)
		}
	case []pair:
		b = AppendMapHeader(b, len(v))
		for _, p := range v {
			b = appendTree(appendTree(b, p.key), p.value)
		}
	}
	return b
}

// theirs encodes a tree with another implementation.
func theirs(e *msgpack.Encoder, v any) error {
	switch v := v.(type) {
	case nil:
		return e.EncodeNil()
	case bool:
		return e.EncodeBool(v)
	case int64:
		return e.EncodeInt(v)
	case uint64:
		return e.EncodeUint(v)
	case float64:
		return e.EncodeFloat64(v)
	case string:
		return e.EncodeString(v)
	case []byte:
		if v == nil {
			v = []byte{}
		}
		return e.EncodeBytes(v)
	case []any:
		err := e.EncodeArrayLen(len(v))
		for _, x := range v {
			err = errors.Join(err, theirs(e, x))
		}
		return err
	case []pair:
		err := e.EncodeMapLen(len(v))
		for _, p := range v {
			err = errors.Join(err, theirs(e, p.key), theirs(e, p.value))
		}
		return err
	}
	return errors.New("no value")
}

// samples are values at the borders of each form.
func samples() []any {
	list := []any{
		nil, true, false, 1.5, math.Inf(-1), "", "ä", []byte{}, []byte{0xff}, []any{}, []pair{},
		uint64(math.MaxInt64 + 1), uint64(math.MaxUint64), int64(math.MaxInt64), int64(math.MinInt64),
	}
	for bits := range 63 {
		n := int64(1) << bits
		list = append(list, n-1, n, n+1, -n, -n-1, 1-n)
	}
	for _, n := range []int{15, 16, 31, 32, 255, 256, 65535, 65536} {
		list = append(list, strings.Repeat("x", n), make([]byte, n), make([]any, n))
		pairs := make([]pair, n)
		for i := range pairs {
			pairs[i] = pair{int64(i), nil}
		}
		list = append(list, pairs)
	}
	return append(list, []any{[]any{[]pair{{"k", []any{[]byte{1}}}}}})
}

// TestEncodesAsTheirs has each sample encoded as another implementation does, and
// decoded to what it was.
func TestEncodesAsTheirs(t *testing.T) {
	for _, v := range samples() {
		got := appendTree(nil, v)
		var want bytes.Buffer
		e := msgpack.NewEncoder(&want)
		e.UseCompactInts(true)
		if err := theirs(e, v); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%.60v: %.60x, want %.60x", v, got, want.Bytes())
		}
		d := NewDecoder(got, errBad)
		back := tree(&d, 0)
		if err := d.End(); err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%.60v became %.60v, %v", v, back, err)
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		read     func(d *Decoder)
		at       int
	}{
		{"", "a value is missing", func(d *Decoder) { d.Int() }, 0},
		{"\x91", "length 1 with 0 bytes left", func(d *Decoder) { d.ArrayLen() }, 0},
		{"\xdf\xff\xff\xff\xff\x00", "length 4294967295 with 1 bytes left", func(d *Decoder) { d.MapLen() }, 0},
		{"\xc0\xdb\xff\xff\xff\xff", "length 4294967295 with 0 bytes left", func(d *Decoder) { d.Nil(); d.Str() }, 1},
		{"\xcd\x01", "length 2 with 1 bytes left", func(d *Decoder) { d.Int() }, 0},
		{"\xa1\xff", "not UTF-8", func(d *Decoder) { d.Text() }, 0},
		{"\xc4\x01x", "expected a string, found type byte 0xc4", func(d *Decoder) { d.Text() }, 0},
		{"\xa1x", "expected a binary, found type byte 0xa1", func(d *Decoder) { d.Bin() }, 0},
		{"\xc1", "expected a string or a binary", func(d *Decoder) { d.Raw() }, 0},
		{"\xc1", "expected an array", func(d *Decoder) { d.ArrayLen() }, 0},
		{"\xc1", "expected a boolean", func(d *Decoder) { d.Bool() }, 0},
		{"\xc1", "expected a floating-point number", func(d *Decoder) { d.Float() }, 0},
		{"\xc1", "expected an integer", func(d *Decoder) { d.Uint() }, 0},
		{"\xff", "integer -1 is negative", func(d *Decoder) { d.Uint() }, 0},
		{"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "is above", func(d *Decoder) { d.Int() }, 0},
		{"\xce\xff\xff\xff\xff\xc0", "1 bytes after the message", func(d *Decoder) { d.Uint32() }, 5},
		{"\x93\x01\x02\x03", "more than 3 values", func(d *Decoder) { d.LimitValues(3); tree(d, 0) }, 3},
	} {
		d := NewDecoder([]byte(tc.in), errBad)
		tc.read(&d)
		err := d.End()
		if !errors.Is(err, errBad) || !strings.Contains(err.Error(), tc.want) || d.ErrOffset() != tc.at {
			t.Errorf("%q: %v at %d, want %s at %d", tc.in, err, d.ErrOffset(), tc.want, tc.at)
		}
		if d.Int() != 0 || d.Str() != "" || d.Bytes() != nil || d.Float() != 0 || d.Bool() || d.Nil() ||
			d.MapLen() != 0 {
			t.Errorf("%q: values after the error", tc.in)
		}
	}
}

type inner struct {
	N    int8
	Rest []string
}

type outer struct {
	Yes     bool
	Small   uint16
	Big     uint64
	Text    string
	Bytes   []byte
	Pointer *string
	List    []inner
	Table   map[string]inner
	Nested  *inner
}

func TestStructs(t *testing.T) {
	text := ""
	for _, v := range []outer{
		{},
		{Yes: true, Small: 65535, Big: math.MaxUint64, Text: "\xff", Bytes: []byte{0}, Pointer: &text},
		{List: []inner{{N: -128}, {Rest: []string{"", "x"}}}, Table: map[string]inner{"b": {N: 1}, "a": {}},
			Nested: &inner{}},
	} {
		b, err := AppendStruct(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		var back outer
		d := NewDecoder(b, errBad)
		d.Struct(&back)
		if err := d.End(); err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%+v became %+v, %v", v, back, err)
		}
	}
	if _, err := AppendStruct(nil, 7); err == nil {
		t.Error("a number is no struct")
	}
	if _, err := AppendStruct(nil, struct{ C chan int }{make(chan int)}); err == nil {
		t.Error("a channel was encoded")
	}
	for in, want := range map[string]string{
		"\x81\xa3Who\x01":                     "unknown field \"Who\" of outer",
		"\x82\xa3Yes\xc3\xa3Yes\xc3":          "field `Yes` twice",
		"\x81\xa5Small\xce\x00\x01\x00\x00":   "does not fit",
		"\x81\xa6Nested\x81\xa1N\xd1\xff\x00": "does not fit",
		"\x81\xa5Table\x82\xa1a\x80\xa1a\x80": "key `a` twice",
		"\x81\xa4List\xdd\x7f\xff\xff\xff":    "bytes left",
	} {
		var v outer
		d := NewDecoder([]byte(in), errBad)
		d.Struct(&v)
		if err := d.End(); !errors.Is(err, errBad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
	var d Decoder
	if d.Struct(outer{}); d.OK() {
		t.Error("decoded into a copy")
	}
}

// FuzzDecoder has every message that the Decoder accepts encoded again, which must
// give the same value, and the same bytes as another implementation's encoder.
func FuzzDecoder(f *testing.F) {
	for _, v := range samples() {
		if b := appendTree(nil, v); len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Add([]byte("\xdf\x00\x00\x00\x01\xca\x3f\x80\x00\x00\xd3\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Add([]byte("\x91\x91\x91\xc1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := NewDecoder(b, errBad)
		v := tree(&d, 0)
		if d.End() != nil {
			return
		}
		again := appendTree(nil, v)
		e := NewDecoder(again, errBad)
		back := tree(&e, 0)
		if err := e.End(); err != nil || !bytes.Equal(appendTree(nil, back), again) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
		var other bytes.Buffer
		enc := msgpack.NewEncoder(&other)
		enc.UseCompactInts(true)
		if err := theirs(enc, v); err != nil || !bytes.Equal(other.Bytes(), again) {
			t.Errorf("%x, theirs %x, %v", again, other.Bytes(), err)
		}
		// Their decoder must accept the message, and stand behind it.
		r := bytes.NewReader(b)
		if err := msgpack.NewDecoder(r).Skip(); err != nil || r.Len() != 0 {
			t.Errorf("%x: %v, %d bytes left", b, err, r.Len())
		}
	})
}

// FuzzStruct has every struct that is decoded encoded again.
func FuzzStruct(f *testing.F) {
	text := "t"
	b, err := AppendStruct(nil, outer{Yes: true, Big: 1 << 40, Bytes: []byte{1}, Pointer: &text,
		List: []inner{{N: -1, Rest: []string{"r"}}}, Table: map[string]inner{"k": {}}, Nested: &inner{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, back outer
		d := NewDecoder(b, errBad)
		if d.Struct(&v); d.End() != nil {
			return
		}
		again, err := AppendStruct(nil, &v)
		if err != nil {
			t.Fatal(err)
		}
		e := NewDecoder(again, errBad)
		e.Struct(&back)
		third, _ := AppendStruct(nil, &back)
		if err := e.End(); err != nil || !bytes.Equal(third, again) {
			t.Errorf("%+v became %+v, %v", v, back, err)
		}
	})
}
