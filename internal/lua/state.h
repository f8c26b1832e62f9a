// The state of the binding, and what every other layer is made of: the arena,
// protected operations, and references.
//
// The C files are layers. Each includes only its own header and those of layers
// before it in this list, which layers_test.go checks:
//
//	state    the state, the arena, protected operations, references
//	box      the userdata which stand for Go objects
//	value    values between Go and Lua, tables
//	trace    where an error was raised
//	hook     stopping a thread, debug.sethook
//	library  replacements for functions of the standard library
//	object   functions and types of Go
//	call     calls from Go, chunks
//	life     opening and closing a state, threads
//
// Nothing here knows a Go pointer: Go objects are numbers. Each function which
// Go calls runs what may raise under lua_pcall, so that no error crosses a Go
// frame. Such functions return a Lua status: LUA_OK or the reason of the failure.
#ifndef PROVIUM_LUA_STATE_H
#define PROVIUM_LUA_STATE_H

#include <stddef.h>
#include <stdint.h>

#include <lauxlib.h>
#include <lua.h>

// Kinds of gl_val.
enum {
	GL_NIL,
	GL_BOOL,   // i is 0 or 1
	GL_INT,    // i
	GL_FLOAT,  // i holds the bits of the double
	GL_STRING, // p, n; valid only as long as its owner keeps it
	GL_OBJECT, // a userdata of ours: i is the object's id, ref (pushed) its metatable
	GL_TABLE,  // from here on: ref is the stack index (read) ...
	GL_FUNCTION,
	GL_THREAD,
	GL_USERDATA, // ... of a userdata which is not ours
	GL_REF,      // only Go to Lua: ref is a reference in the registry
	GL_OWNED_REF // like GL_REF, released once pushed
};

// gl_val is one Lua value on its way between the two sides.
typedef struct gl_val {
	int32_t kind;
	int32_t ref;
	int64_t i;
	const char *p;
	size_t n;
} gl_val;

// gl_arena is memory for values on their way from Go to Lua.
typedef struct gl_arena {
	char *p;
	size_t cap;
} gl_arena;

// gl_trace is where an error was raised.
typedef struct gl_trace {
	char *text;   // malloc'ed traceback, or NULL
	char *source; // malloc'ed chunk name of the nearest Lua line, or NULL
	int line;
} gl_trace;

// gl_task is the C part of one thread of the host.
typedef struct gl_task {
	int32_t stop; // set atomically by any OS thread: raise until the entry call ends
	lua_State *L;
	gl_trace stopped; // where it was when first stopped
	gl_trace *trace;  // where the message handler puts what it finds
	int resumed;      // lua_resume runs L: a call of Go may leave it
	struct gl_frame *left; // the call of Go for which L was left, or NULL
	lua_State *aux;   // the stack for that call, once it was needed
	int auxref;
} gl_task;

typedef struct gl_state {
	lua_State *L;
	lua_State *cur; // the Lua thread whose stack Go code may use now
	gl_task *task;  // the thread which holds the baton
	gl_task host;   // ... when the holder is not a thread
	uintptr_t handle;
	gl_arena arena;
	int64_t *dead; // objects whose Lua side was collected
	size_t ndead, capdead;
	int gcdepth;   // finalizers running
	int closing;   // the state is being closed: finalizers are on a budget
	int64_t ticks; // what is left of the budget
	int allowhook; // the private flag of lua_State was found where it is expected
	int userhooks; // debug.sethook was used
	int refs;      // references alive
} gl_state;

// gl_of returns the state that L belongs to.
static inline gl_state *gl_of(lua_State *L) {
	return (gl_state *)(*(uintptr_t *)lua_getextraspace(L) & ~(uintptr_t)1);
}

// gl_is_task reports whether L is that of a thread of the host, which nobody else may resume
// or close. Lua does not copy the mark into the threads that L creates.
static inline int gl_is_task(lua_State *L) {
	return *(uintptr_t *)lua_getextraspace(L) & 1;
}

// gl_at returns the Lua thread whose code has called the Go code that runs.
static inline lua_State *gl_at(gl_state *st) {
	lua_Debug ar;
	gl_task *t = st->task;
	return t->left != NULL && st->cur == t->aux && !lua_getstack(t->aux, 0, &ar) ? t->L : st->cur;
}

// gl_arena_reserve makes room for n bytes. It returns 0 when memory is out.
int gl_arena_reserve(gl_state *st, size_t n);

// gl_arena_take takes the arena away from the state while its values are pushed:
// a finalizer may run meanwhile and use an arena. gl_arena_return puts it back.
gl_arena gl_arena_take(gl_state *st);
void gl_arena_return(gl_state *st, gl_arena a);

// gl_op carries the arguments and results of a function that runs protected.
typedef struct gl_op {
	gl_state *st;
	int ref, ref2, idx, n;
	int64_t id;
	gl_val *vals;
	const char *p;
	size_t len;
} gl_op;

// gl_protect runs f with a as its only argument. It leaves nres results, or the
// error.
int gl_protect(lua_State *L, lua_CFunction f, gl_op *a, int nres);

// gl_op_of returns the gl_op of a function that gl_protect runs.
gl_op *gl_op_of(lua_State *L);

// gl_protect_ref is gl_protect for a function which sets a->ref2 to a new
// reference. It leaves nothing on the stack.
int gl_protect_ref(gl_state *st, lua_CFunction f, gl_op *a, int *ref);

// gl_take_ref pops a value and returns a reference to it. It may raise.
int gl_take_ref(lua_State *L, gl_state *st);

// gl_new_lua_thread creates a thread and a reference to it. It returns NULL when memory is
// out.
lua_State *gl_new_lua_thread(gl_state *st, int *ref);

// gl_aux returns the aux of the task that holds the baton, with room for n values. It returns
// NULL when memory is out.
lua_State *gl_aux(gl_state *st, int n);

// gl_ref creates a reference to the value at idx of the current stack.
int gl_ref(gl_state *st, int idx, int *ref);
void gl_unref(gl_state *st, int ref);

void gl_settop(gl_state *st, int top);
void gl_pop(gl_state *st, int n);

int gl_collect(gl_state *st);
int64_t gl_memory(gl_state *st);

#endif
