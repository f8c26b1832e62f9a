package lua

// #cgo CFLAGS: -I/usr/include/lua5.4 -O2 -Wall -Werror=implicit-function-declaration
// #cgo LDFLAGS: -l:liblua5.4.a -lm -ldl
// #include "glue.h"
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/cgo"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Config describes how a State differs from a plain one. The zero value is
// ready to use.
type Config struct {
	// Stdout receives the output of print. Nil is os.Stdout.
	Stdout io.Writer
	// Roots are the directories that require searches, in order: "a.b" is
	// <root>/a/b.lua or <root>/a/b/init.lua. package.preload is searched before them, package.path
	// (initially empty) after them. Libraries in C are never loaded.
	Roots []string
	// ChunkName returns the name that errors show for a file found by require.
	// Nil stands for its path.
	ChunkName func(path string) string
	// Opened, when set, is called with each file that require reads or, looking
	// for a module, does not find. Its error becomes that of require.
	Opened func(path string) error
	// Running, when set, is called before the chunk of a module that require has found
	// runs, and done afterwards.
	Running func(path string) (done func() error, err error)
	// TempDir is the directory in which os.tmpname makes files; "" is that of the C library.
	TempDir string
	// Stuck, when set, is called while a thread that was interrupted cannot stop, since a function of C does not
	// return: after StuckAfter, and again each time. So it is while Close waits for finalizers, such as those of
	// io.popen. It is called without the baton.
	Stuck func()
}

// StuckAfter is how long a function of C may keep an interrupted thread from stopping before Config.Stuck is called.
const StuckAfter = 300 * time.Millisecond

// State is one Lua interpreter. Only Close frees its memory.
type State struct {
	cfg    Config
	c      *C.gl_state // nil once closed
	handle cgo.Handle
	baton  baton
	thread *Thread // the one that runs now; nil for a goroutine that is not a thread

	functions []*function // index is the id; 0 is unused
	free      []int64     // ids of collected functions
	objects   map[int64]*Userdata
	byObject  map[any]*Userdata
	lastID    int64
	types     map[*Type]*Table // metatables
	tostring  *Function
	releases  *releases
	raised    raisedErrors
	pinned    int // calls that block with a C stack each

	watched atomic.Bool // by watchStop

	mu      sync.Mutex // guards the fields below
	threads map[*Thread]struct{}
	running sync.WaitGroup // threads with a goroutine of their own
}

// New creates a State with the standard library. The caller holds its baton.
func New(cfg Config) (*State, error) {
	if cfg.Stdout == nil {
		cfg.Stdout = os.Stdout
	}
	s := &State{
		cfg:       cfg,
		functions: make([]*function, 1),
		objects:   make(map[int64]*Userdata),
		byObject:  make(map[any]*Userdata),
		types:     make(map[*Type]*Table),
		releases:  new(releases),
		threads:   make(map[*Thread]struct{}),
	}
	s.baton.acquire()
	s.handle = cgo.NewHandle(s)
	s.c = C.gl_new(C.uintptr_t(s.handle))
	if s.c == nil {
		s.handle.Delete()
		return nil, errors.New("lua state: out of memory")
	}
	if err := s.openLibrary(); err != nil {
		s.Close()
		return nil, fmt.Errorf("lua state: %w", err)
	}
	return s, nil
}

// Close interrupts the remaining threads, waits for them, and frees the State
// with everything that belongs to it. A finalizer that does not end is stopped.
// Closing again does nothing. The caller must hold the baton and must not be a
// thread of this State.
func (s *State) Close() {
	if s.c == nil {
		return
	}
	s.use()
	if s.thread != nil {
		panic("lua: State.Close called by one of its threads")
	}
	s.mu.Lock()
	for t := range s.threads {
		t.Interrupt(ErrClosed)
	}
	s.mu.Unlock()
	s.Block(func() error { s.running.Wait(); return nil })
	for t := range s.threads {
		t.drop() // never run
	}
	s.releases.close()
	defer s.expectClose()()
	C.gl_close(s.c)
	s.c = nil
	s.handle.Delete()
}

// expectClose calls Config.Stuck until done is called.
func (s *State) expectClose() (done func()) {
	if s.cfg.Stuck == nil {
		return func() {}
	}
	closed := make(chan struct{})
	var calls sync.WaitGroup
	calls.Go(func() {
		look := time.NewTicker(StuckAfter)
		defer look.Stop()
		for {
			select {
			case <-closed:
				return
			case <-look.C:
				s.cfg.Stuck()
			}
		}
	})
	return func() { close(closed); calls.Wait() }
}

// ErrClosed is the cause with which Close interrupts threads.
var ErrClosed = errors.New("lua state closed")

// use returns the C state. It panics when nobody holds the baton.
func (s *State) use() *C.gl_state {
	if s.c == nil {
		panic("lua: State used after Close")
	}
	if !s.baton.held.Load() {
		panic("lua: State used without its baton")
	}
	return s.c
}

// Block releases the baton while fn runs, so that threads of the State can run,
// and returns fn's error. It is for a goroutine that holds the baton and is not
// a thread; a GoFunc uses Call.Block.
func (s *State) Block(fn func() error) error {
	c := s.use()
	if c.gcdepth > 0 {
		return fn() // another thread could need the Lua stack of the finalizer
	}
	thread, cur, task := s.thread, c.cur, c.task
	s.thread = nil
	c.cur, c.task = c.L, &c.host
	s.baton.release()
	defer func() {
		s.baton.acquire()
		s.thread = thread
		c.cur, c.task = cur, task
		s.drain()
	}()
	return fn()
}

// drain releases what either side has dropped.
func (s *State) drain() {
	if s.c.gcdepth > 0 {
		return // values may be on their way to Lua
	}
	for _, id := range s.releases.take() {
		C.gl_unref(s.c, id)
	}
	if s.c.ndead == 0 {
		return
	}
	for _, id := range unsafe.Slice((*int64)(unsafe.Pointer(s.c.dead)), int(s.c.ndead)) {
		switch {
		case id < 0:
			s.functions[-id] = nil
			s.free = append(s.free, -id)
		case C.gl_object_alive(s.c, C.int64_t(id)) == 0:
			if u := s.objects[id]; u != nil {
				delete(s.objects, id)
				delete(s.byObject, u.obj)
				u.id = 0
			}
		}
	}
	s.c.ndead = 0
}

// maybeDrain is drain for frequent calls: it waits until there is much to do.
func (s *State) maybeDrain() {
	if s.c.ndead > 64 || s.releases.n.Load() > 64 {
		s.drain()
	}
}

// Collect runs a full garbage collection of Lua and releases what Go dropped.
func (s *State) Collect() {
	s.use()
	s.drain()
	C.gl_collect(s.c)
	s.drain()
}

// Memory returns the number of bytes that Lua uses.
func (s *State) Memory() int64 { return int64(C.gl_memory(s.use())) }

// Globals returns the table of global variables.
func (s *State) Globals() *Table {
	var id C.int
	if C.gl_globals(s.use(), &id) != C.LUA_OK {
		panic(errLimit)
	}
	return s.table(id)
}

// Global returns the value of a global variable, without metamethods.
func (s *State) Global(name string) Value { return s.Globals().Get(name) }

// SetGlobal sets a global variable. It fails for a value that has no Lua form.
func (s *State) SetGlobal(name string, v Value) error { return s.Globals().Set(name, v) }

// NewTable creates an empty table.
func (s *State) NewTable() *Table {
	var id C.int
	if C.gl_new_table(s.use(), 0, 0, &id) != C.LUA_OK {
		panic(errLimit)
	}
	return s.table(id)
}

func (s *State) table(id C.int) *Table {
	t := &Table{ref{s, id}}
	runtime.AddCleanup(t, release, t.dropped())
	return t
}

func (s *State) function(id C.int) *Function {
	f := &Function{ref{s, id}}
	runtime.AddCleanup(f, release, f.dropped())
	return f
}

// refAt creates a reference to the value at a stack index.
func (s *State) refAt(idx C.int32_t) ref {
	var id C.int
	if C.gl_ref(s.c, C.int(idx), &id) != C.LUA_OK {
		panic(errLimit)
	}
	return ref{s, id}
}

// LoadString compiles Lua source text. Errors and tracebacks show name as the
// file: "name:line:". A failure to compile is an *Error. Binary chunks are
// refused.
func (s *State) LoadString(source, name string) (*Function, error) {
	c := s.use()
	chunk := C.CString("@" + strings.ReplaceAll(name, "\x00", ""))
	defer C.free(unsafe.Pointer(chunk))
	var msg C.gl_val
	var id C.int
	rc := C.gl_load(c, (*C.char)(unsafe.Pointer(unsafe.StringData(source))), C.size_t(len(source)), chunk, &msg, &id)
	if rc != C.LUA_OK {
		text, _ := s.unmarshal(&msg).(string)
		C.gl_pop(c, 1)
		return nil, &Error{Value: text, Message: text}
	}
	return s.function(id), nil
}

// LoadFile compiles the file at path, which errors show as name. A first line
// that starts with '#' is skipped. The error is an *Error if the text does not
// compile, else that of reading the file.
func (s *State) LoadFile(path, name string) (*Function, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return s.LoadString(skipShebang(string(b)), name)
}

// skipShebang removes a byte order mark and the text of a first line that starts
// with '#'. Line numbers stay the same.
func skipShebang(text string) string {
	text = strings.TrimPrefix(text, "\xef\xbb\xbf")
	if !strings.HasPrefix(text, "#") {
		return text
	}
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return text[i:]
	}
	return ""
}
