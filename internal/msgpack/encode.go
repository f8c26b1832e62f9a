package msgpack

import (
	"encoding/binary"
	"math"
)

// The encoder is a handful of append functions: the agent is small and must
// start fast, so it carries no reflection-driven codec.

// AppendMapHeader appends the header of a map of n keys and values.
func AppendMapHeader(b []byte, n int) []byte {
	if n < 16 {
		return append(b, 0x80|byte(n))
	}
	if n < 1<<16 {
		return binary.BigEndian.AppendUint16(append(b, 0xde), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(n))
}

// AppendArrayHeader appends the header of an array of n values.
func AppendArrayHeader(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, 0x90|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

// AppendString appends a string.
func AppendString(b []byte, s string) []byte {
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

// AppendBin appends a binary.
func AppendBin(b, p []byte) []byte {
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

// AppendUint appends an integer in its shortest form.
func AppendUint(b []byte, v uint64) []byte {
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

// AppendInt appends an integer in its shortest form.
func AppendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return AppendUint(b, uint64(v))
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

// AppendBool appends a boolean.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

// AppendNil appends nil.
func AppendNil(b []byte) []byte { return append(b, 0xc0) }

// AppendFloat appends a number of 64 bits.
func AppendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
}

// Fields builds a map whose size is known only once its optional fields have
// been decided on. It has at most 15, so that its header is one byte.
type Fields struct {
	// Buf is the message so far. The value of a Key is appended to it.
	Buf []byte
	at  int
}

// OpenFields begins a map behind b.
func OpenFields(b []byte) Fields { return Fields{append(b, 0x80), len(b)} }

// Key appends a key. One value must follow.
func (f *Fields) Key(k string) {
	f.Buf[f.at]++
	f.Buf = AppendString(f.Buf, k)
}

// Str appends a key and a string.
func (f *Fields) Str(k, v string) { f.Key(k); f.Buf = AppendString(f.Buf, v) }

// Bin appends a key and a binary.
func (f *Fields) Bin(k string, v []byte) { f.Key(k); f.Buf = AppendBin(f.Buf, v) }

// Uint appends a key and an integer.
func (f *Fields) Uint(k string, v uint64) { f.Key(k); f.Buf = AppendUint(f.Buf, v) }

// Int appends a key and an integer.
func (f *Fields) Int(k string, v int64) { f.Key(k); f.Buf = AppendInt(f.Buf, v) }

// Bool appends a key and a boolean.
func (f *Fields) Bool(k string, v bool) { f.Key(k); f.Buf = AppendBool(f.Buf, v) }

// OptStr appends a key and a string that is not empty.
func (f *Fields) OptStr(k, v string) {
	if v != "" {
		f.Str(k, v)
	}
}

// OptBin appends a key and a binary that is not empty.
func (f *Fields) OptBin(k string, v []byte) {
	if len(v) > 0 {
		f.Bin(k, v)
	}
}

// OptUint appends a key and an integer that is not 0.
func (f *Fields) OptUint(k string, v uint64) {
	if v != 0 {
		f.Uint(k, v)
	}
}

// OptBool appends a key and true; it appends nothing for false.
func (f *Fields) OptBool(k string, v bool) {
	if v {
		f.Bool(k, v)
	}
}
