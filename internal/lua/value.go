package lua

// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"unsafe"
)

// Value is a Lua value: nil, bool, int64, float64, string (bytes), *Table,
// *Function, *Userdata or *Coroutine. Where a Value is taken, the other integer
// and float types of Go, []byte and GoFunc are accepted, too, and converted; an
// unsigned integer above math.MaxInt64 is refused.
type Value = any

// Function is a Lua or Go function. It belongs to one State.
type Function struct{ ref }

// Coroutine is a Lua thread as a value. It is opaque to Go.
type Coroutine struct{ ref }

// TypeName is the name of v's type as Lua's type function has it; for userdata
// it is the name of their Type.
func TypeName(v Value) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case bool:
		return "boolean"
	case int64, int, int32, int16, int8, uint, uint64, uint32, uint16, uint8, float64, float32:
		return "number"
	case string, []byte:
		return "string"
	case *Table:
		return "table"
	case *Function, GoFunc:
		return "function"
	case *Userdata:
		if v.typ != nil {
			return v.typ.Name
		}
		return "userdata"
	case *Coroutine:
		return "thread"
	}
	return fmt.Sprintf("%T", v)
}

// Same tells whether a and b are the same Lua value (rawequal). Numbers of
// different types are never the same here.
func Same(a, b Value) bool {
	ra, oka := a.(referrer)
	rb, okb := b.(referrer)
	if oka && okb {
		x, y := ra.reference(), rb.reference()
		return x.st == y.st && C.gl_same(x.st.use(), x.id, y.id) != 0
	}
	ua, oka := a.(*Userdata)
	ub, okb := b.(*Userdata)
	if oka && okb {
		return ua.sameAs(ub)
	}
	switch a.(type) {
	case nil, bool, int64, float64, string:
		return a == b
	}
	return false
}

// inlineMax is the length up to which a string travels through the arena; a
// longer one is made a Lua string at once, so that it is copied only once.
const inlineMax = 4096

const valSize = int(unsafe.Sizeof(C.gl_val{}))

var errTooLong = errors.New("lua: out of memory")

// marshal lays vals out in the arena. The result is valid until the next call
// into Lua; the caller keeps vals alive until they are pushed.
func (s *State) marshal(vals []Value) (*C.gl_val, error) {
	size := len(vals) * valSize
	var owned []C.int // long strings, in order
	undo := func() {
		for _, id := range owned {
			C.gl_unref(s.c, id)
		}
	}
	for i, v := range vals {
		switch v := v.(type) {
		case nil, bool, int64, float64, int, int32, int16, int8, uint32, uint16, uint8, float32:
		case uint:
			if uint64(v) > math.MaxInt64 {
				undo()
				return nil, fmt.Errorf("lua value: %d does not fit a Lua integer", v)
			}
		case uint64:
			if v > math.MaxInt64 {
				undo()
				return nil, fmt.Errorf("lua value: %d does not fit a Lua integer", v)
			}
		case string:
			if len(v) <= inlineMax {
				size += len(v)
				continue
			}
			id, err := s.refString(unsafe.Pointer(unsafe.StringData(v)), len(v))
			if err != nil {
				undo()
				return nil, err
			}
			owned = append(owned, id)
		case []byte:
			if len(v) <= inlineMax {
				size += len(v)
				continue
			}
			id, err := s.refString(unsafe.Pointer(unsafe.SliceData(v)), len(v))
			if err != nil {
				undo()
				return nil, err
			}
			owned = append(owned, id)
		case GoFunc:
			vals[i] = s.NewFunction("?", v)
		case *Userdata:
			if err := s.own(v.st, v); err == nil {
				s.register(v)
				continue
			} else {
				undo()
				return nil, err
			}
		case referrer:
			if err := s.own(v.reference().st, v); err != nil {
				undo()
				return nil, err
			}
		default:
			undo()
			return nil, fmt.Errorf("lua value: Go type %T has no Lua form", v)
		}
	}
	if C.gl_arena_reserve(s.c, C.size_t(size)) == 0 {
		undo()
		return nil, errTooLong
	}
	base := unsafe.Pointer(s.c.arena.p)
	out := unsafe.Slice((*C.gl_val)(base), len(vals))
	bytes := unsafe.Slice((*byte)(base), size)
	at := len(vals) * valSize
	for i, v := range vals {
		o := &out[i]
		*o = C.gl_val{}
		switch v := v.(type) {
		case nil:
			o.kind = C.GL_NIL
		case bool:
			o.kind = C.GL_BOOL
			if v {
				o.i = 1
			}
		case int64:
			setInt(o, v)
		case float64:
			o.kind = C.GL_FLOAT
			o.i = C.int64_t(math.Float64bits(v))
		case string:
			if len(v) > inlineMax {
				o.kind, o.ref = C.GL_OWNED_REF, C.int32_t(owned[0])
				owned = owned[1:]
				continue
			}
			n := copy(bytes[at:], v)
			setString(o, base, at, n)
			at += n
		case []byte:
			if len(v) > inlineMax {
				o.kind, o.ref = C.GL_OWNED_REF, C.int32_t(owned[0])
				owned = owned[1:]
				continue
			}
			n := copy(bytes[at:], v)
			setString(o, base, at, n)
			at += n
		case int:
			setInt(o, int64(v))
		case int32:
			setInt(o, int64(v))
		case int16:
			setInt(o, int64(v))
		case int8:
			setInt(o, int64(v))
		case uint:
			setInt(o, int64(v))
		case uint64:
			setInt(o, int64(v))
		case uint32:
			setInt(o, int64(v))
		case uint16:
			setInt(o, int64(v))
		case uint8:
			setInt(o, int64(v))
		case float32:
			o.kind = C.GL_FLOAT
			o.i = C.int64_t(math.Float64bits(float64(v)))
		case *Userdata:
			if v.foreign != nil {
				o.kind, o.ref = C.GL_REF, C.int32_t(v.foreign.id)
			} else {
				u := s.register(v)
				o.kind, o.i, o.ref = C.GL_OBJECT, C.int64_t(u.id), C.int32_t(s.types[u.typ].id)
			}
		case referrer:
			o.kind, o.ref = C.GL_REF, C.int32_t(v.reference().id)
		}
	}
	return (*C.gl_val)(base), nil
}

func setInt(o *C.gl_val, n int64) {
	o.kind, o.i = C.GL_INT, C.int64_t(n)
}

func setString(o *C.gl_val, base unsafe.Pointer, at, n int) {
	o.kind, o.n = C.GL_STRING, C.size_t(n)
	o.p = (*C.char)(unsafe.Add(base, at))
}

// own says whether a value of state of may be used in s.
func (s *State) own(of *State, v Value) error {
	if of != s {
		return fmt.Errorf("lua value: %s belongs to another state", TypeName(v))
	}
	return nil
}

func (s *State) refString(p unsafe.Pointer, n int) (C.int, error) {
	var id C.int
	if C.gl_ref_string(s.c, (*C.char)(p), C.size_t(n), &id) != C.LUA_OK {
		return 0, errTooLong
	}
	return id, nil
}

// goString copies the bytes of a string value.
func goString(v *C.gl_val) string {
	return strings.Clone(unsafe.String((*byte)(unsafe.Pointer(v.p)), int(v.n)))
}

// unmarshal makes a Go value of v, whose stack index must still be good.
func (s *State) unmarshal(v *C.gl_val) Value {
	switch v.kind {
	case C.GL_BOOL:
		return v.i != 0
	case C.GL_INT:
		return int64(v.i)
	case C.GL_FLOAT:
		return math.Float64frombits(uint64(v.i))
	case C.GL_STRING:
		return goString(v)
	case C.GL_OBJECT:
		if u := s.objects[int64(v.i)]; u != nil {
			return u
		}
		return nil
	case C.GL_TABLE:
		t := &Table{s.refAt(v.ref)}
		runtime.AddCleanup(t, release, t.dropped())
		return t
	case C.GL_FUNCTION:
		f := &Function{s.refAt(v.ref)}
		runtime.AddCleanup(f, release, f.dropped())
		return f
	case C.GL_THREAD:
		c := &Coroutine{s.refAt(v.ref)}
		runtime.AddCleanup(c, release, c.dropped())
		return c
	case C.GL_USERDATA:
		r := s.refAt(v.ref)
		u := &Userdata{st: s, foreign: &r}
		runtime.AddCleanup(u, release, r.dropped())
		return u
	}
	return nil
}
