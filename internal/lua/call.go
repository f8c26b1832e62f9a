package lua

// #include "glue.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/cgo"
	"runtime/debug"
	"slices"
	"strings"
	"unsafe"
)

// GoFunc is a function of Go for Lua to call. It runs on the goroutine of the
// calling thread and holds the baton. It may keep the values it gets, but not
// the Call. Its error becomes a Lua error (see the package comment). A panic
// ends the thread with a *PanicError. It must not call runtime.Goexit.
type GoFunc func(c *Call) ([]Value, error)

type function struct {
	name string
	fn   GoFunc
}

// NewFunction creates a Lua function which calls fn. The name is for messages
// about a panic.
func (s *State) NewFunction(name string, fn GoFunc) *Function { return s.newFunction(name, fn, false) }

// NewBlockingFunction is NewFunction for an fn that is expected to block: a thread that calls
// it holds no OS thread meanwhile, unless functions of C are on its stack, as with a function
// that sort calls. What fn calls with Call.Call has a stack apart from that of its caller.
func (s *State) NewBlockingFunction(name string, fn GoFunc) *Function {
	return s.newFunction(name, fn, true)
}

func (s *State) newFunction(name string, fn GoFunc, leaves bool) *Function {
	c := s.use()
	var at int64
	if n := len(s.free); n > 0 {
		at = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		at = int64(len(s.functions))
		s.functions = append(s.functions, nil)
	}
	s.functions[at] = &function{name, fn}
	var id C.int
	var left C.int
	if leaves {
		left = 1
	}
	if C.gl_new_function(c, C.int64_t(at), left, &id) != C.LUA_OK {
		panic(errLimit)
	}
	return s.function(id)
}

// Call is one call of a GoFunc. It is valid until that returns.
type Call struct {
	st     *State
	thread *Thread
	fn     *function
	frame  *C.gl_frame
	left   bool // no C stack waits for it
}

// State returns the state the call comes from.
func (c *Call) State() *State { return c.st }

// Thread returns the calling thread. It is nil in a finalizer that runs while no
// thread does.
func (c *Call) Thread() *Thread { return c.thread }

// Context returns a context that ends when the thread is interrupted.
func (c *Call) Context() context.Context {
	if c.thread == nil {
		return context.Background()
	}
	return c.thread.ctx
}

// Name returns the name of the function, as given to NewFunction.
func (c *Call) Name() string { return c.fn.name }

// NArgs returns the number of arguments.
func (c *Call) NArgs() int { return int(c.frame.nargs) }

// Arg returns argument i, counted from 1, or nil beyond the last.
func (c *Call) Arg(i int) Value {
	if i < 1 || i > int(c.frame.nargs) {
		return nil
	}
	return c.st.unmarshal(&unsafe.Slice(c.frame.args, int(c.frame.nargs))[i-1])
}

// Args returns all arguments.
func (c *Call) Args() []Value {
	vals := make([]Value, c.NArgs())
	for i := range vals {
		vals[i] = c.Arg(i + 1)
	}
	return vals
}

// Block releases the baton while fn runs, so that other threads of the State can
// run, and returns fn's error. fn must not use the State. Its context ends when
// the thread is interrupted, and then fn should return soon. In a __gc handler
// the baton is kept.
func (c *Call) Block(fn func(ctx context.Context) error) error {
	ctx := c.Context()
	if !c.left {
		if c.st.pinned >= maxPinned {
			return errPinned
		}
		c.st.pinned++
		defer func() { c.st.pinned-- }()
	}
	return c.st.Block(func() error { return fn(ctx) })
}

// maxPinned is how many calls of a State may block with a C stack each, and so an OS thread.
// The Go runtime ends the process at 10,000.
const maxPinned = 2000

var errPinned = fmt.Errorf("too many tasks: %d wait within coroutines or functions that C code calls, as sort does, "+
	"which takes a thread of the host each; have fewer of them wait at a time, or wait outside of those", maxPinned)

// Call calls a Lua or Go function, or a callable value, on the caller's thread.
// The error is an *Error, which a GoFunc may return to pass it on unchanged. The
// callee cannot yield to a coroutine outside of this call.
func (c *Call) Call(fn Value, args ...Value) ([]Value, error) {
	c.st.use()
	if c.thread != nil && c.thread.stopped() {
		return nil, c.thread.stopError()
	}
	return c.st.call(fn, args)
}

// ToString returns v as Lua's tostring does, with metamethods. The error is an
// *Error.
func (c *Call) ToString(v Value) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	vals, err := c.Call(c.st.tostring, v)
	if err != nil {
		return "", err
	}
	s, _ := vals[0].(string)
	return s, nil
}

// Position is a line of Lua code.
type Position struct {
	// Source is the chunk's name as given to LoadFile or LoadString.
	Source string
	// Line counts from 1. It is 0 for an unknown position, and Source is then empty.
	Line int
	// File is set when the chunk has a name, unlike a text given to load.
	File bool
}

// String returns "source:line", or "" for an unknown position.
func (p Position) String() string {
	if p.Line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.Source, p.Line)
}

// Caller returns the nearest Lua line on the stack. In a coroutine without one,
// it is the line of the thread which resumed it.
func (c *Call) Caller() Position {
	return c.st.nearest(func(Position) bool { return true })
}

// CallerFile returns the nearest line on the stack that is in a file: in a chunk
// that has a name.
func (c *Call) CallerFile() Position {
	return c.st.nearest(func(p Position) bool { return p.File })
}

// Callers returns the lines on the stack that are in files, the nearest first.
func (c *Call) Callers() []Position {
	var out []Position
	c.st.nearest(func(p Position) bool {
		if p.File {
			out = append(out, p)
		}
		return false
	})
	return out
}

// CallerIn returns the nearest line on the stack that is in a file whose name ends in one
// of the suffixes. Where there is none, it is that of CallerFile.
func (c *Call) CallerIn(suffixes ...string) Position {
	at := c.st.nearest(func(p Position) bool {
		return p.File && slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(p.Source, s) })
	})
	if at.Line == 0 {
		return c.CallerFile()
	}
	return at
}

// Traceback returns the Lua stack as text, from the caller on.
func (c *Call) Traceback() string {
	cs := c.st.use()
	var out C.gl_val
	C.gl_traceback(cs, &out)
	text, _ := c.st.unmarshal(&out).(string)
	C.gl_pop(cs, 1)
	return text
}

// where returns the position of the function at a stack level. ok is false
// beyond the outermost one; the position of a function in C or Go is unknown.
func (s *State) where(level int) (Position, bool) {
	var ar C.lua_Debug
	if level < 0 || C.gl_where(s.use(), C.int(level), &ar) == 0 {
		return Position{}, false
	}
	if ar.currentline <= 0 {
		return Position{}, true
	}
	p := Position{Line: int(ar.currentline)}
	src := C.GoStringN(ar.source, C.int(ar.srclen))
	if len(src) > 0 && (src[0] == '@' || src[0] == '=') {
		p.Source, p.File = src[1:], src[0] == '@'
	} else {
		p.Source = C.GoString(&ar.short_src[0])
	}
	return p, true
}

// nearest returns the nearest position on the stack that is good. After a
// coroutine it searches the thread which resumed it.
func (s *State) nearest(good func(Position) bool) Position {
	if p := s.scan(1, good); p.Line > 0 || s.thread == nil || C.gl_at(s.c) == s.c.task.L {
		return p
	}
	cur := s.c.cur
	s.c.cur = s.c.task.L
	defer func() { s.c.cur = cur }()
	return s.scan(0, good)
}

func (s *State) scan(level int, good func(Position) bool) Position {
	for ; ; level++ {
		p, ok := s.where(level)
		if !ok || p.Line > 0 && good(p) {
			return p
		}
	}
}

// call runs fn on the current Lua stack.
func (s *State) call(fn Value, args []Value) ([]Value, error) {
	vals := make([]Value, 0, len(args)+1)
	vals = append(append(vals, fn), args...)
	p, err := s.marshal(vals)
	if err != nil {
		return nil, err
	}
	r := new(C.gl_result)
	C.gl_call(s.c, p, C.int(len(vals)), r)
	runtime.KeepAlive(vals)
	return s.results(r)
}

// enter is call for the function of a thread. The functions of Go that its code calls run
// here, without a C stack below them, where that is possible.
func (s *State) enter(fn Value, args []Value) ([]Value, error) {
	vals := make([]Value, 0, len(args)+1)
	vals = append(append(vals, fn), args...)
	p, err := s.marshal(vals)
	if err != nil {
		return nil, err
	}
	r := new(C.gl_result)
	C.gl_start(s.c, p, C.int(len(vals)), r)
	runtime.KeepAlive(vals)
	if r.status == C.LUA_OK {
		for C.gl_resume(s.c, r) != 0 {
			s.serveLeft()
		}
	}
	return s.results(r)
}

// serveLeft carries out the call for which the running thread was left.
func (s *State) serveLeft() {
	f, own := s.c.task.left, s.c.cur
	s.c.cur = s.c.task.aux
	f.rc = s.goCall(f)
	s.c.cur = own
}

// results returns what a call into Lua has left, and takes it off the stack.
func (s *State) results(r *C.gl_result) ([]Value, error) {
	// References may be made below, and they may run finalizers, which use the
	// arena: copy what is there. The strings are on the Lua stack.
	raw := append([]C.gl_val(nil), unsafe.Slice(r.vals, int(r.n))...)
	out := make([]Value, len(raw))
	for i := range raw {
		out[i] = s.unmarshal(&raw[i])
	}
	var err error
	if r.status != C.LUA_OK {
		err = s.newError(r, out)
		out = nil
	}
	C.gl_settop(s.c, r.base)
	C.gl_trace_free(&r.trace)
	return out, err
}

//export gl_go_call
func gl_go_call(handle C.uintptr_t, f *C.gl_frame) C.int {
	return cgo.Handle(handle).Value().(*State).goCall(f)
}

// goCall runs a GoFunc for the trampoline. No panic may leave it.
func (s *State) goCall(f *C.gl_frame) (rc C.int) {
	s.maybeDrain()
	if f.id <= 0 || int(f.id) >= len(s.functions) || s.functions[f.id] == nil {
		return s.fail(f, errors.New("function of Go is gone"))
	}
	c := &Call{st: s, thread: s.thread, fn: s.functions[f.id], frame: f, left: s.c.task.left == f}
	defer func() {
		switch p := recover(); p {
		case nil:
		case errLimit:
			rc = s.fail(f, errLimit)
		default:
			pe := &PanicError{Function: c.fn.name, Value: p, Stack: string(debug.Stack())}
			if c.thread != nil {
				c.thread.Interrupt(pe)
			}
			rc = s.fail(f, pe)
		}
	}()
	vals, err := c.fn.fn(c)
	if err != nil {
		return s.fail(f, err)
	}
	if len(vals) == 0 {
		return 0
	}
	p, err := s.marshal(vals)
	if err != nil {
		return s.fail(f, err)
	}
	f.out, f.nout = p, C.int(len(vals))
	return 0
}

// fail sets the error value of the frame to that of err.
func (s *State) fail(f *C.gl_frame, err error) C.int {
	v := s.errorValue(err)
	p, merr := s.marshal([]Value{v})
	if merr != nil {
		p, merr = s.marshal([]Value{"error value: " + merr.Error()})
	}
	if merr == nil {
		f.out, f.nout = p, 1
	} else {
		f.out, f.nout = nil, 0 // no memory: whatever is at the top is raised
	}
	return 1
}
