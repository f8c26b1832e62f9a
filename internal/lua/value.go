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
// *Function, *Userdata or *Coroutine. Arguments of this type may also be other
// integer and float types of Go, []byte and GoFunc, which are converted. An
// unsigned integer above math.MaxInt64 is refused.
type Value = any

// Function is a Lua or Go function. It belongs to one State.
type Function struct{ ref }

// Coroutine is a Lua thread as a value. It is opaque to Go.
type Coroutine struct{ ref }

// TypeName returns the name of v's type, as Lua's type function does. For a
// userdata it returns the name of its Type.
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

// inlineMax is the length up to which a string is copied to the arena. A longer
// one becomes a Lua string at once, so that it is copied only once.
const inlineMax = 4096

const valSize = int(unsafe.Sizeof(C.gl_val{}))

// errLimit is returned when Lua fails at its simplest operations. As a panic
// inside a GoFunc it becomes a plain Lua error.
var errLimit = errors.New("stack overflow (too many nested calls) or out of memory")

// marshal writes vals to the arena. The result is valid until the next call
// into Lua, and the caller must keep vals alive until they are pushed. A GoFunc
// in vals is replaced by its Function.
func (s *State) marshal(vals []Value) (*C.gl_val, error) {
	size, owned, err := s.prepare(vals)
	if err == nil && C.gl_arena_reserve(s.c, C.size_t(size)) == 0 {
		err = errLimit
	}
	if err != nil {
		for _, id := range owned {
			C.gl_unref(s.c, id)
		}
		return nil, err
	}
	base := unsafe.Pointer(s.c.arena.p)
	out := unsafe.Slice((*C.gl_val)(base), len(vals))
	text := arenaText{base: base, at: len(vals) * valSize, owned: owned}
	for i, v := range vals {
		s.write(&out[i], v, &text)
	}
	return (*C.gl_val)(base), nil
}

// prepare checks that vals have a Lua form. It returns the size of the arena
// they need, and references to the long strings among them, in order.
func (s *State) prepare(vals []Value) (size int, owned []C.int, err error) {
	size = len(vals) * valSize
	for i, v := range vals {
		switch v := v.(type) {
		case nil, bool, int64, float64, int, int32, int16, int8, uint32, uint16, uint8, float32:
			continue
		case uint:
			err = checkUnsigned(uint64(v))
		case uint64:
			err = checkUnsigned(v)
		case string:
			if len(v) <= inlineMax {
				size += len(v)
				continue
			}
			owned, err = s.appendString(owned, unsafe.StringData(v), len(v))
		case []byte:
			if len(v) <= inlineMax {
				size += len(v)
				continue
			}
			owned, err = s.appendString(owned, unsafe.SliceData(v), len(v))
		case GoFunc:
			vals[i] = s.NewFunction("?", v)
		case *Userdata:
			if err = s.own(v.st, v); err == nil {
				s.register(v)
			}
		case referrer:
			err = s.own(v.reference().st, v)
		default:
			err = fmt.Errorf("lua value: Go type %T has no Lua form", v)
		}
		if err != nil {
			return 0, owned, err
		}
	}
	return size, owned, nil
}

func checkUnsigned(n uint64) error {
	if n > math.MaxInt64 {
		return fmt.Errorf("lua value: %d does not fit a Lua integer", n)
	}
	return nil
}

// appendString appends a reference to a new Lua string to ids.
func (s *State) appendString(ids []C.int, p *byte, n int) ([]C.int, error) {
	var id C.int
	if C.gl_ref_string(s.c, (*C.char)(unsafe.Pointer(p)), C.size_t(n), &id) != C.LUA_OK {
		return ids, errLimit
	}
	return append(ids, id), nil
}

// arenaText is the part of the arena behind the values, which holds the bytes
// of short strings.
type arenaText struct {
	base  unsafe.Pointer // of the arena
	at    int            // offset of the free part
	owned []C.int        // references to the long strings that follow
}

// write describes v, which prepare has checked.
func (s *State) write(o *C.gl_val, v Value, text *arenaText) {
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
		setFloat(o, v)
	case string:
		text.put(o, unsafe.StringData(v), len(v))
	case []byte:
		text.put(o, unsafe.SliceData(v), len(v))
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
		setFloat(o, float64(v))
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

// put describes the string of n bytes at p.
func (t *arenaText) put(o *C.gl_val, p *byte, n int) {
	if n > inlineMax {
		o.kind, o.ref = C.GL_OWNED_REF, C.int32_t(t.owned[0])
		t.owned = t.owned[1:]
		return
	}
	to := (*byte)(unsafe.Add(t.base, t.at))
	copy(unsafe.Slice(to, n), unsafe.Slice(p, n))
	o.kind, o.n, o.p = C.GL_STRING, C.size_t(n), (*C.char)(unsafe.Pointer(to))
	t.at += n
}

func setInt(o *C.gl_val, n int64) {
	o.kind, o.i = C.GL_INT, C.int64_t(n)
}

func setFloat(o *C.gl_val, f float64) {
	o.kind, o.i = C.GL_FLOAT, C.int64_t(math.Float64bits(f))
}

// own returns an error for a value v of another state.
func (s *State) own(of *State, v Value) error {
	if of != s {
		return fmt.Errorf("lua value: %s belongs to another state", TypeName(v))
	}
	return nil
}

// goString returns a copy of the bytes of a string value.
func goString(v *C.gl_val) string {
	return strings.Clone(unsafe.String((*byte)(unsafe.Pointer(v.p)), int(v.n)))
}

// unmarshal returns the Go value of v, whose stack index must still be valid.
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
