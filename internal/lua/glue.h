// C side of the binding: what Go calls, what C calls back, and the structures
// both sides read. Nothing here knows a Go pointer; Go objects are numbers.
#ifndef GLUE_H
#define GLUE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

// Kinds of gl_val.
enum {
	GL_NIL,
	GL_BOOL,   // i is 0 or 1
	GL_INT,    // i
	GL_FLOAT,  // i holds the bits of the double
	GL_STRING, // p, n; only as long as its owner keeps it
	GL_OBJECT, // a userdata of ours: i is the object's id, ref (pushed) its metatable
	GL_TABLE,  // from here on: ref is the stack index (read) ...
	GL_FUNCTION,
	GL_THREAD,
	GL_USERDATA, // ... of a userdata that is not ours
	GL_REF,      // only Go to Lua: ref is a reference in the registry
	GL_OWNED_REF // like GL_REF, given up once pushed
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
	char *text; // malloc'ed traceback, NULL while there is none
	char *source; // malloc'ed chunk name of the nearest Lua line, NULL: none
	int line;
} gl_trace;

// gl_task is the C part of one thread of the host.
typedef struct gl_task {
	int32_t stop; // set atomically by any OS thread: raise until the entry call ends
	lua_State *L;
	gl_trace stopped; // where it was when first stopped
	gl_trace *trace;  // where the message handler puts what it finds
} gl_task;

typedef struct gl_state {
	lua_State *L;
	lua_State *cur; // the Lua thread whose stack Go code may use now
	gl_task *task;  // who holds the baton
	gl_task host;   // ... when it is no thread
	uintptr_t handle;
	gl_arena arena;
	int64_t *dead; // objects whose Lua side was collected
	size_t ndead, capdead;
	int gcdepth;   // finalizers running
	int closing;   // state is being closed: finalizers are on a budget
	int64_t ticks; // what is left of the budget
	int allowhook; // private flag of lua_State found where it is expected
	int userhooks; // debug.sethook was used
	int refs;      // references alive
} gl_state;

// gl_frame is one call from Lua to Go.
typedef struct gl_frame {
	gl_state *st;
	lua_State *L;
	int64_t id;
	gl_val *args;
	int nargs;
	gl_val *out;
	int nout;
} gl_frame;

// gl_result is what a call from Go to Lua left.
typedef struct gl_result {
	int status;
	int base; // stack height to go back to
	int n;
	gl_val *vals;
	gl_val msg; // status != LUA_OK: the error value as text
	gl_trace trace;
} gl_result;

// Calls from C to Go. gl_go_call answers 0 (out holds results) or 1 (out[0] is
// the error value to raise).
extern int gl_go_call(uintptr_t handle, gl_frame *f);

// state
gl_state *gl_new(uintptr_t handle);
void gl_close(gl_state *st);
int gl_arena_reserve(gl_state *st, size_t n);
gl_task *gl_task_new(gl_state *st, int *ref);
void gl_task_free(gl_state *st, gl_task *t, int ref);
void gl_trace_free(gl_trace *t);

// values; the functions answer a Lua status, LUA_OK or the reason of failure
int gl_ref(gl_state *st, int idx, int *ref);
int gl_ref_string(gl_state *st, const char *p, size_t n, int *ref);
void gl_unref(gl_state *st, int ref);
void gl_settop(gl_state *st, int top);
void gl_pop(gl_state *st, int n);
int gl_get(gl_state *st, int ref, gl_val *key, gl_val *out);
int gl_set(gl_state *st, int ref, gl_val *kv);
int64_t gl_len(gl_state *st, int ref);
int gl_next(gl_state *st, int ref, gl_val *key, gl_val *out);
int gl_new_table(gl_state *st, int narr, int nrec, int *ref);
int gl_set_metatable(gl_state *st, int ref, int mt);
int gl_new_function(gl_state *st, int64_t id, int *ref);
int gl_object_alive(gl_state *st, int64_t id);
int gl_new_type(gl_state *st, const char *name, int methods, int index, int *ref);
int gl_globals(gl_state *st, int *ref);
int gl_load(gl_state *st, const char *p, size_t n, const char *chunk, gl_val *msg, int *ref);
uintptr_t gl_pointer(gl_state *st, int ref);
int gl_same(gl_state *st, int a, int b);
int gl_collect(gl_state *st);
int64_t gl_memory(gl_state *st);

// calls
void gl_call(gl_state *st, gl_val *vals, int n, gl_result *r);
int gl_where(gl_state *st, int level, lua_Debug *ar);
int gl_traceback(gl_state *st, gl_val *out);

// shared between the C files
gl_state *gl_of(lua_State *L);
void gl_read(lua_State *L, int idx, gl_val *v);
void gl_push(lua_State *L, const gl_val *v);
void gl_capture(lua_State *L, gl_trace *t, int level);
int gl_stopped(gl_state *st);
int gl_raise_stop(lua_State *L, gl_state *st);
void gl_hook_install(gl_state *st);
void gl_library(lua_State *L);
void gl_set_allowhook(lua_State *L, gl_state *st, int on);

#endif
