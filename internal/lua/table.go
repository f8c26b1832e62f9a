package lua

// #include "glue.h"
import "C"

import (
	"fmt"
	"iter"
	"runtime"
)

// Table is a Lua table. Access is raw: metamethods do not run. It belongs to
// one State. Two *Table may refer to the same Lua table; see Pointer.
type Table struct{ ref }

// Get returns t[key], or nil. It panics for a key that has no Lua form.
func (t *Table) Get(key Value) Value {
	s := t.st
	c := s.use()
	vals := []Value{key}
	p, err := s.marshal(vals)
	if err != nil {
		panic(err)
	}
	var out C.gl_val
	rc := C.gl_get(c, t.id, p, &out)
	runtime.KeepAlive(vals)
	runtime.KeepAlive(t)
	defer C.gl_pop(c, 1)
	if rc != C.LUA_OK {
		panic(errLimit)
	}
	return s.unmarshal(&out)
}

// Set sets t[key] to v. A nil v removes the key. It fails when key or v has no
// Lua form, and when key is nil or NaN.
func (t *Table) Set(key, v Value) error {
	s := t.st
	c := s.use()
	switch k := key.(type) {
	case nil:
		return fmt.Errorf("table set: the key is nil")
	case float64:
		if k != k {
			return fmt.Errorf("table set: the key is NaN")
		}
	}
	vals := []Value{key, v}
	p, err := s.marshal(vals)
	if err != nil {
		return fmt.Errorf("table set: %w", err)
	}
	rc := C.gl_set(c, t.id, p)
	runtime.KeepAlive(vals)
	runtime.KeepAlive(t)
	if rc != C.LUA_OK {
		return fmt.Errorf("table set: %w", errLimit)
	}
	return nil
}

// Len returns a border of t, as Lua's # without metamethods.
func (t *Table) Len() int {
	n := int(C.gl_len(t.st.use(), t.id))
	runtime.KeepAlive(t)
	return n
}

// Append sets t[#t+1].
func (t *Table) Append(v Value) error { return t.Set(int64(t.Len()+1), v) }

// All iterates over the pairs of t, in no particular order. Existing keys may
// be changed or removed meanwhile, but new ones must not be added.
func (t *Table) All() iter.Seq2[Value, Value] {
	return func(yield func(Value, Value) bool) {
		var key Value
		for {
			k, v, ok := t.next(key)
			if !ok || !yield(k, v) {
				return
			}
			key = k
		}
	}
}

// next returns the pair after key. It panics when key is not in the table.
func (t *Table) next(key Value) (k, v Value, ok bool) {
	s := t.st
	c := s.use()
	vals := []Value{key}
	p, err := s.marshal(vals)
	if err != nil {
		panic(err)
	}
	var out [2]C.gl_val
	rc := C.gl_next(c, t.id, p, &out[0])
	runtime.KeepAlive(vals)
	runtime.KeepAlive(t)
	if rc != C.LUA_OK {
		msg, _ := s.unmarshal(&out[0]).(string)
		C.gl_pop(c, 1)
		panic(fmt.Errorf("table iteration: %s", msg))
	}
	defer C.gl_pop(c, 2)
	if out[0].kind == C.GL_NIL {
		return nil, nil, false
	}
	return s.unmarshal(&out[0]), s.unmarshal(&out[1]), true
}

// Pointer identifies the table while it lives, for example to find cycles.
func (t *Table) Pointer() uintptr {
	p := uintptr(C.gl_pointer(t.st.use(), t.id))
	runtime.KeepAlive(t)
	return p
}
