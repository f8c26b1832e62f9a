package lua

// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sort"
	"unsafe"
)

// Type is a kind of userdata. It is only a description, which any number of
// States may use at the same time. It must not change once it is in use.
type Type struct {
	// Name is the type's name in messages, such as "vm".
	Name string
	// Methods by name. Arg(1) is the object: a call with anything else, as
	// o.m(x) for o:m(x), fails before the method is entered.
	Methods map[string]GoFunc
	// Inline has the methods run where they are called, as a function of NewFunction does.
	// Otherwise they are like those of NewBlockingFunction.
	Inline bool
	// Index returns members other than methods. ok is false for an unknown one.
	Index func(c *Call, obj any, key Value) (v Value, ok bool, err error)
	// NewIndex assigns to a member. When it is nil, assignments fail.
	NewIndex func(c *Call, obj any, key, v Value) error
	// ToString returns the text for tostring and print. When it is nil, that is
	// the name.
	ToString func(c *Call, obj any) string
	// Unknown returns a member that is nowhere else. When it is nil, such a
	// member is an error with the type's name and the closest member.
	Unknown func(c *Call, obj any, key Value) (Value, error)
	// Fields are names that Index knows, for suggestions.
	Fields []string
	// Meta are more metamethods, such as "__close", "__call" and "__len". Their
	// first argument is not checked. __gc, __index, __newindex, __tostring, __name and
	// __metatable are not allowed.
	Meta map[string]GoFunc
}

// Userdata is a Go object as a Lua value. While Lua or Go has the value, the
// same object is always the same Lua value.
type Userdata struct {
	st      *State
	typ     *Type
	obj     any
	id      int64 // 0 while Lua does not have it
	foreign *ref  // userdata not made by NewUserdata, such as a file of io
}

// Type returns the userdata's type, or nil if NewUserdata did not make it.
func (u *Userdata) Type() *Type { return u.typ }

// Object returns the Go object, or nil if NewUserdata did not make the userdata.
func (u *Userdata) Object() any { return u.obj }

// NewUserdata returns the Lua value of obj, which is usually a pointer and must
// be comparable. It panics when obj is not comparable, when it already is a
// value of another type, and when typ is invalid.
func (s *State) NewUserdata(typ *Type, obj any) *Userdata {
	s.use()
	if obj == nil || !reflect.TypeOf(obj).Comparable() {
		panic(fmt.Sprintf("lua: userdata %s of Go type %T: want something comparable", typ.Name, obj))
	}
	if u := s.byObject[obj]; u != nil {
		if u.typ != typ {
			panic(fmt.Sprintf("lua: %T is a %s already and cannot be a %s", obj, u.typ.Name, typ.Name))
		}
		return u
	}
	s.open(typ)
	return &Userdata{st: s, typ: typ, obj: obj}
}

// register returns the userdata for u's object after giving it an id, which is u
// or an older one.
func (s *State) register(u *Userdata) *Userdata {
	if u.id != 0 || u.foreign != nil {
		return u
	}
	if known := s.byObject[u.obj]; known != nil {
		return known
	}
	s.lastID++
	u.id = s.lastID
	s.objects[u.id] = u
	s.byObject[u.obj] = u
	return u
}

// open creates the type's metatable in this state.
func (s *State) open(typ *Type) {
	if s.types[typ] != nil {
		return
	}
	methods := s.NewTable()
	for name, fn := range typ.Methods {
		must(methods.Set(name, s.newFunction(typ.Name+"."+name, typ.method(name, fn), !typ.Inline)))
	}
	index := s.NewFunction(typ.Name, typ.index)
	name := C.CString(typ.Name)
	defer C.free(unsafe.Pointer(name))
	var id C.int
	if C.gl_new_type(s.c, name, methods.id, index.id, &id) != C.LUA_OK {
		panic(errLimit)
	}
	runtime.KeepAlive(methods)
	runtime.KeepAlive(index)
	mt := s.table(id)
	must(mt.Set("__newindex", s.NewFunction(typ.Name, typ.newIndex)))
	must(mt.Set("__tostring", s.NewFunction(typ.Name, typ.toString)))
	for name, fn := range typ.Meta {
		switch name {
		case "__gc", "__index", "__newindex", "__tostring", "__name", "__metatable":
			panic(fmt.Sprintf("lua: type %s has %s in Meta", typ.Name, name))
		}
		must(mt.Set(name, s.NewFunction(typ.Name+"."+name, fn)))
	}
	s.types[typ] = mt
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// method returns fn behind a check of the object.
func (typ *Type) method(name string, fn GoFunc) GoFunc {
	return func(c *Call) ([]Value, error) {
		if u, ok := c.Arg(1).(*Userdata); ok && u.typ == typ {
			return fn(c)
		}
		got := "nothing"
		if c.NArgs() > 0 {
			got = TypeName(c.Arg(1))
		}
		return nil, fmt.Errorf("%s:%s: self is missing (got %s): call it with ':' as in %s:%s(...), not '.'",
			typ.Name, name, got, typ.Name, name)
	}
}

// self returns the object of a metamethod.
func (typ *Type) self(c *Call) (any, error) {
	if u, ok := c.Arg(1).(*Userdata); ok && u.typ == typ {
		return u.obj, nil
	}
	return nil, fmt.Errorf("%s expected, got %s", typ.Name, TypeName(c.Arg(1)))
}

// index is the __index of all members but methods.
func (typ *Type) index(c *Call) ([]Value, error) {
	obj, err := typ.self(c)
	if err != nil {
		return nil, err
	}
	key := c.Arg(2)
	if typ.Index != nil {
		if v, ok, err := typ.Index(c, obj, key); err != nil || ok {
			return []Value{v}, err
		}
	}
	if typ.Unknown != nil {
		v, err := typ.Unknown(c, obj, key)
		return []Value{v}, err
	}
	return nil, typ.UnknownMember(key)
}

// UnknownMember returns the error for a member that the type does not have.
func (typ *Type) UnknownMember(key Value) error {
	name, ok := key.(string)
	if !ok {
		return fmt.Errorf("cannot index %s with a %s", typ.Name, TypeName(key))
	}
	names := append([]string(nil), typ.Fields...)
	for m := range typ.Methods {
		names = append(names, m)
	}
	sort.Strings(names)
	kind := "method"
	if len(typ.Fields) > 0 {
		kind = "field or method"
	}
	if best := Closest(name, names); best != "" {
		return fmt.Errorf("unknown %s `%s` on %s (did you mean `%s`?)", kind, name, typ.Name, best)
	}
	return fmt.Errorf("unknown %s `%s` on %s", kind, name, typ.Name)
}

func (typ *Type) newIndex(c *Call) ([]Value, error) {
	obj, err := typ.self(c)
	if err != nil {
		return nil, err
	}
	if typ.NewIndex == nil {
		if name, ok := c.Arg(2).(string); ok {
			return nil, fmt.Errorf("cannot assign to field `%s` of %s", name, typ.Name)
		}
		return nil, errors.New("cannot assign to a field of " + typ.Name)
	}
	return nil, typ.NewIndex(c, obj, c.Arg(2), c.Arg(3))
}

func (typ *Type) toString(c *Call) ([]Value, error) {
	obj, err := typ.self(c)
	if err != nil {
		return nil, err
	}
	if typ.ToString == nil {
		return []Value{typ.Name}, nil
	}
	return []Value{typ.ToString(c, obj)}, nil
}
