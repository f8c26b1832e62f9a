// State, values and calls. Every function that Go calls runs what may raise
// under lua_pcall, so no error ever crosses a Go frame.
#include "glue.h"

#include <stdlib.h>
#include <string.h>

// gl_box is the body of our userdata. The owner tells it from foreign ones,
// whatever metatable somebody gave them.
typedef struct gl_box {
	gl_state *owner;
	int64_t id;
} gl_box;

static const char key_objects; // registry: id -> userdata, weak
static const char key_boxmeta; // registry: metatable of the boxes behind functions

static void push_object(lua_State *L, int64_t id, int mt);

gl_state *gl_of(lua_State *L) {
	return *(gl_state **)lua_getextraspace(L);
}

// ---- arena

int gl_arena_reserve(gl_state *st, size_t n) {
	if (n <= st->arena.cap) return 1;
	size_t cap = n < 1024 ? 1024 : n;
	char *p = realloc(st->arena.p, cap);
	if (p == NULL) return 0;
	st->arena.p = p;
	st->arena.cap = cap;
	return 1;
}

// While values are pushed a finalizer may run and use the arena, so the pusher
// takes it away and gives it back afterwards.
static gl_arena arena_take(gl_state *st) {
	gl_arena a = st->arena;
	st->arena.p = NULL;
	st->arena.cap = 0;
	return a;
}

static void arena_give(gl_state *st, gl_arena a) {
	if (st->arena.p == NULL && a.cap <= 64 * 1024)
		st->arena = a;
	else
		free(a.p);
}

// ---- protected operations

typedef struct op {
	gl_state *st;
	int ref, ref2, idx, n;
	int64_t id;
	gl_val *vals;
	const char *p;
	size_t len;
} op;

// protect runs f with a as its only argument and leaves nres results.
static int protect(lua_State *L, lua_CFunction f, op *a, int nres) {
	if (!lua_checkstack(L, LUA_MINSTACK)) return LUA_ERRMEM;
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, a);
	return lua_pcall(L, 1, nres, 0);
}

static op *op_of(lua_State *L) {
	return (op *)lua_touserdata(L, 1);
}

// take_ref makes the value at the top a reference.
static int take_ref(lua_State *L, gl_state *st) {
	int ref = luaL_ref(L, LUA_REGISTRYINDEX);
	st->refs++;
	return ref;
}

// run is protect for operations that end in one reference and leave nothing.
static int run_ref(gl_state *st, lua_CFunction f, op *a, int *ref) {
	lua_State *L = st->cur;
	a->st = st;
	a->ref2 = LUA_NOREF;
	int rc = protect(L, f, a, 0);
	if (rc != LUA_OK)
		lua_pop(L, 1);
	*ref = a->ref2;
	return rc;
}

static int op_ref(lua_State *L) {
	op *a = op_of(L);
	gl_push(L, a->vals);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

static int op_ref_top(lua_State *L) {
	op *a = op_of(L);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

// gl_ref refers to the value at idx, which the protected function gets as its
// second argument.
int gl_ref(gl_state *st, int idx, int *ref) {
	lua_State *L = st->cur;
	idx = lua_absindex(L, idx);
	if (!lua_checkstack(L, 4)) return LUA_ERRMEM;
	op a = {0};
	a.st = st;
	a.ref2 = LUA_NOREF;
	lua_pushcfunction(L, op_ref_top);
	lua_pushlightuserdata(L, &a);
	lua_pushvalue(L, idx);
	int rc = lua_pcall(L, 2, 0, 0);
	if (rc != LUA_OK) lua_pop(L, 1);
	*ref = a.ref2;
	return rc;
}

int gl_ref_string(gl_state *st, const char *p, size_t n, int *ref) {
	gl_val v = {GL_STRING, 0, 0, p, n};
	op a = {0};
	a.vals = &v;
	return run_ref(st, op_ref, &a, ref);
}

void gl_unref(gl_state *st, int ref) {
	// luaL_unref only overwrites existing slots: it cannot raise.
	luaL_unref(st->cur, LUA_REGISTRYINDEX, ref);
	st->refs--;
}

void gl_settop(gl_state *st, int top) {
	lua_settop(st->cur, top);
}

void gl_pop(gl_state *st, int n) {
	lua_pop(st->cur, n);
}

// ---- values

void gl_read(lua_State *L, int idx, gl_val *v) {
	v->ref = lua_absindex(L, idx);
	v->i = 0;
	switch (lua_type(L, idx)) {
	case LUA_TBOOLEAN:
		v->kind = GL_BOOL;
		v->i = lua_toboolean(L, idx);
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx)) {
			v->kind = GL_INT;
			v->i = lua_tointeger(L, idx);
		} else {
			lua_Number n = lua_tonumber(L, idx);
			v->kind = GL_FLOAT;
			memcpy(&v->i, &n, sizeof n);
		}
		break;
	case LUA_TSTRING:
		v->kind = GL_STRING;
		v->p = lua_tolstring(L, idx, &v->n);
		break;
	case LUA_TTABLE:
		v->kind = GL_TABLE;
		break;
	case LUA_TFUNCTION:
		v->kind = GL_FUNCTION;
		break;
	case LUA_TTHREAD:
		v->kind = GL_THREAD;
		break;
	case LUA_TUSERDATA: {
		gl_box *b = lua_touserdata(L, idx);
		if (lua_rawlen(L, idx) == sizeof *b && b->owner == gl_of(L) && b->id > 0) {
			v->kind = GL_OBJECT;
			v->i = b->id;
		} else {
			v->kind = GL_USERDATA;
		}
		break;
	}
	case LUA_TLIGHTUSERDATA:
		v->kind = GL_USERDATA;
		break;
	default:
		v->kind = GL_NIL;
	}
}

void gl_push(lua_State *L, const gl_val *v) {
	switch (v->kind) {
	case GL_BOOL:
		lua_pushboolean(L, (int)v->i);
		break;
	case GL_INT:
		lua_pushinteger(L, v->i);
		break;
	case GL_FLOAT: {
		lua_Number n;
		memcpy(&n, &v->i, sizeof n);
		lua_pushnumber(L, n);
		break;
	}
	case GL_STRING:
		lua_pushlstring(L, v->p == NULL ? "" : v->p, v->n);
		break;
	case GL_REF:
		lua_rawgeti(L, LUA_REGISTRYINDEX, v->ref);
		break;
	case GL_OWNED_REF:
		lua_rawgeti(L, LUA_REGISTRYINDEX, v->ref);
		luaL_unref(L, LUA_REGISTRYINDEX, v->ref);
		gl_of(L)->refs--;
		break;
	case GL_OBJECT:
		push_object(L, v->i, v->ref);
		break;
	default:
		lua_pushnil(L);
	}
}

static int op_get(lua_State *L) {
	op *a = op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, a->vals);
	lua_rawget(L, -2);
	return 1;
}

// gl_get leaves the value on the stack, so that out stays valid.
int gl_get(gl_state *st, int ref, gl_val *key, gl_val *out) {
	lua_State *L = st->cur;
	op a = {0};
	a.ref = ref;
	a.vals = key;
	gl_arena mine = arena_take(st);
	int rc = protect(L, op_get, &a, 1);
	arena_give(st, mine);
	gl_read(L, -1, out);
	return rc;
}

static int op_set(lua_State *L) {
	op *a = op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, &a->vals[0]);
	gl_push(L, &a->vals[1]);
	lua_rawset(L, -3);
	return 0;
}

int gl_set(gl_state *st, int ref, gl_val *kv) {
	lua_State *L = st->cur;
	op a = {0};
	a.ref = ref;
	a.vals = kv;
	gl_arena mine = arena_take(st);
	int rc = protect(L, op_set, &a, 0);
	arena_give(st, mine);
	if (rc != LUA_OK) lua_pop(L, 1);
	return rc;
}

int64_t gl_len(gl_state *st, int ref) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 1)) return 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
	int64_t n = (int64_t)lua_rawlen(L, -1);
	lua_pop(L, 1);
	return n;
}

static int op_next(lua_State *L) {
	op *a = op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, a->vals);
	a->n = lua_next(L, -2);
	if (!a->n) {
		lua_pushnil(L);
		lua_pushnil(L);
	}
	return 2;
}

// gl_next leaves key and value on the stack; a nil key is the end.
int gl_next(gl_state *st, int ref, gl_val *key, gl_val *out) {
	lua_State *L = st->cur;
	op a = {0};
	a.ref = ref;
	a.vals = key;
	gl_arena mine = arena_take(st);
	int rc = protect(L, op_next, &a, 2);
	arena_give(st, mine);
	if (rc != LUA_OK) {
		gl_read(L, -1, &out[0]);
		return rc;
	}
	gl_read(L, -2, &out[0]);
	gl_read(L, -1, &out[1]);
	return rc;
}

static int op_new_table(lua_State *L) {
	op *a = op_of(L);
	lua_createtable(L, a->idx, a->n);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_new_table(gl_state *st, int narr, int nrec, int *ref) {
	op a = {0};
	a.idx = narr;
	a.n = nrec;
	return run_ref(st, op_new_table, &a, ref);
}

static int op_set_metatable(lua_State *L) {
	op *a = op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->idx);
	lua_setmetatable(L, -2);
	return 0;
}

int gl_set_metatable(gl_state *st, int ref, int mt) {
	op a = {0};
	a.ref = ref;
	a.idx = mt;
	int unused;
	return run_ref(st, op_set_metatable, &a, &unused);
}

static int op_globals(lua_State *L) {
	op *a = op_of(L);
	lua_pushglobaltable(L);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_globals(gl_state *st, int *ref) {
	op a = {0};
	return run_ref(st, op_globals, &a, ref);
}

uintptr_t gl_pointer(gl_state *st, int ref) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 1)) return 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
	uintptr_t p = (uintptr_t)lua_topointer(L, -1);
	lua_pop(L, 1);
	return p;
}

int gl_same(gl_state *st, int a, int b) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 2)) return 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, a);
	lua_rawgeti(L, LUA_REGISTRYINDEX, b);
	int same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same;
}

static int op_collect(lua_State *L) {
	lua_gc(L, LUA_GCCOLLECT);
	return 0;
}

int gl_collect(gl_state *st) {
	op a = {0};
	int rc = protect(st->cur, op_collect, &a, 0);
	if (rc != LUA_OK) lua_pop(st->cur, 1);
	return rc;
}

int64_t gl_memory(gl_state *st) {
	return (int64_t)lua_gc(st->cur, LUA_GCCOUNT) * 1024 + lua_gc(st->cur, LUA_GCCOUNTB);
}

// ---- objects and functions of Go

// box_gc runs when Lua has collected a box: Go learns of it when it next looks.
static int box_gc(lua_State *L) {
	gl_box *b = lua_touserdata(L, 1);
	gl_state *st = gl_of(L);
	if (b == NULL || lua_rawlen(L, 1) != sizeof *b || b->owner != st) return 0;
	if (b->id != 0 && !st->closing) {
		if (st->ndead == st->capdead) {
			size_t cap = st->capdead ? st->capdead * 2 : 64;
			int64_t *p = realloc(st->dead, cap * sizeof *p);
			if (p == NULL) return 0; // the object stays until the state ends
			st->dead = p;
			st->capdead = cap;
		}
		st->dead[st->ndead++] = b->id;
	}
	b->owner = NULL;
	return 0;
}

static gl_box *new_box(lua_State *L, gl_state *st, int64_t id) {
	gl_box *b = lua_newuserdatauv(L, sizeof *b, 0);
	b->owner = st;
	b->id = id;
	return b;
}

// trampoline is every Go function as Lua sees it. Go answers with values or an
// error value; the error is raised here, where no Go frame is left.
static int trampoline(lua_State *L) {
	gl_state *st = gl_of(L);
	if (gl_stopped(st)) return gl_raise_stop(L, st);
	gl_val few[16];
	gl_frame f;
	int n = lua_gettop(L);
	f.st = st;
	f.L = L;
	f.id = lua_tointeger(L, lua_upvalueindex(1));
	f.nargs = n;
	f.args = few;
	f.out = NULL;
	f.nout = 0;
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (n > 16) f.args = lua_newuserdatauv(L, (size_t)n * sizeof *f.args, 0);
	for (int i = 0; i < n; i++) gl_read(L, i + 1, &f.args[i]);

	lua_State *saved = st->cur;
	st->cur = L;
	int rc = gl_go_call(st->handle, &f);
	st->cur = saved;
	if (gl_stopped(st)) return gl_raise_stop(L, st);

	gl_arena mine = arena_take(st);
	if (f.nout > 0 && !lua_checkstack(L, f.nout + LUA_MINSTACK)) {
		arena_give(st, mine);
		return luaL_error(L, "too many results");
	}
	for (int i = 0; i < f.nout; i++) gl_push(L, &f.out[i]);
	arena_give(st, mine);
	if (rc != 0) return lua_error(L);
	return f.nout;
}

static int op_new_function(lua_State *L) {
	op *a = op_of(L);
	lua_pushinteger(L, a->id);
	new_box(L, a->st, -a->id); // negative: the id of a function
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_boxmeta);
	lua_setmetatable(L, -2);
	lua_pushcclosure(L, trampoline, 2);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_new_function(gl_state *st, int64_t id, int *ref) {
	op a = {0};
	a.id = id;
	return run_ref(st, op_new_function, &a, ref);
}

// push_object gives the userdata that Lua has for the id, or makes one.
static void push_object(lua_State *L, int64_t id, int mt) {
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_objects);
	if (lua_rawgeti(L, -1, id) != LUA_TUSERDATA) {
		lua_pop(L, 1);
		new_box(L, gl_of(L), id);
		lua_rawgeti(L, LUA_REGISTRYINDEX, mt);
		lua_setmetatable(L, -2);
		lua_pushvalue(L, -1);
		lua_rawseti(L, -3, id);
	}
	lua_remove(L, -2);
}

// gl_object_alive tells whether Lua has, or has again, a userdata for the id.
int gl_object_alive(gl_state *st, int64_t id) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 2)) return 1;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_objects);
	int alive = lua_rawgeti(L, -1, id) == LUA_TUSERDATA;
	lua_pop(L, 2);
	return alive;
}

// object_index looks among the methods (upvalue 1) before it asks Go (upvalue 2).
static int object_index(lua_State *L) {
	lua_settop(L, 2);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
	lua_pop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(2));
	lua_insert(L, 1);
	lua_call(L, 2, 1);
	return 1;
}

static int op_new_type(lua_State *L) {
	op *a = op_of(L);
	lua_createtable(L, 0, 8);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->idx);
	lua_pushcclosure(L, object_index, 2);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, a->p);
	lua_pushvalue(L, -1);
	lua_setfield(L, -3, "__name");
	lua_setfield(L, -2, "__metatable");
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_new_type(gl_state *st, const char *name, int methods, int index, int *ref) {
	op a = {0};
	a.p = name;
	a.ref = methods;
	a.idx = index;
	return run_ref(st, op_new_type, &a, ref);
}

// ---- calls

// gl_capture notes the Lua stack and the nearest Lua line from level on. It
// may raise when memory is out.
void gl_capture(lua_State *L, gl_trace *t, int level) {
	gl_state *st = gl_of(L);
	lua_Debug ar;
	gl_trace_free(t);
	for (int i = level; lua_getstack(L, i, &ar); i++) {
		lua_getinfo(L, "Sl", &ar);
		if (ar.currentline > 0) {
			t->source = strdup(ar.source);
			t->line = ar.currentline;
			break;
		}
	}
	luaL_traceback(L, L, NULL, level);
	if (L != st->task->L && st->task->L != NULL) {
		// Inside a coroutine: say also who resumed it.
		luaL_traceback(L, st->task->L, "\nfrom the coroutine's caller:", 0);
		lua_concat(L, 2);
	}
	t->text = strdup(lua_tostring(L, -1));
	lua_pop(L, 1);
}

void gl_trace_free(gl_trace *t) {
	free(t->text);
	free(t->source);
	t->text = t->source = NULL;
	t->line = 0;
}

static int message_handler(lua_State *L) {
	gl_state *st = gl_of(L);
	if (st->task->trace != NULL && !gl_stopped(st)) gl_capture(L, st->task->trace, 1);
	return 1;
}

static int op_push(lua_State *L) {
	op *a = op_of(L);
	luaL_checkstack(L, a->n + LUA_MINSTACK, "too many arguments");
	for (int i = 0; i < a->n; i++) gl_push(L, &a->vals[i]);
	return a->n;
}

static int op_message(lua_State *L) {
	if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
	if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER)
		luaL_tolstring(L, 1, NULL);
	else
		lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
	return 1;
}

// gl_call calls vals[0] with the n-1 values after it. Results, or the error
// value and its text, stay on the stack until gl_settop(r->base).
void gl_call(gl_state *st, gl_val *vals, int n, gl_result *r) {
	lua_State *L = st->cur;
	memset(r, 0, sizeof *r);
	r->base = lua_gettop(L);
	if (!lua_checkstack(L, LUA_MINSTACK)) {
		static const char full[] = "stack overflow";
		r->status = LUA_ERRMEM;
		r->msg.kind = GL_STRING;
		r->msg.p = full;
		r->msg.n = sizeof full - 1;
		return;
	}
	lua_pushcfunction(L, message_handler);
	op a = {0};
	a.vals = vals;
	a.n = n;
	gl_arena mine = arena_take(st);
	r->status = protect(L, op_push, &a, LUA_MULTRET);
	arena_give(st, mine);
	if (r->status == LUA_OK) {
		gl_trace *saved = st->task->trace;
		gl_task *task = st->task;
		task->trace = &r->trace;
		r->status = lua_pcall(L, n - 1, LUA_MULTRET, r->base + 1);
		task->trace = saved;
	}
	if (r->status == LUA_OK) {
		r->n = lua_gettop(L) - r->base - 1;
	} else {
		r->n = 1;
		lua_checkstack(L, 4);
		lua_pushcfunction(L, op_message);
		lua_pushvalue(L, -2);
		if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
			lua_pop(L, 1);
			lua_pushvalue(L, -1);
		}
		gl_read(L, -1, &r->msg);
	}
	if (r->n == 0) return;
	if (!gl_arena_reserve(st, (size_t)r->n * sizeof *r->vals)) {
		r->n = 0;
		return;
	}
	r->vals = (gl_val *)st->arena.p;
	for (int i = 0; i < r->n; i++) gl_read(L, r->base + 2 + i, &r->vals[i]);
}

int gl_where(gl_state *st, int level, lua_Debug *ar) {
	if (!lua_getstack(st->cur, level, ar)) return 0;
	return lua_getinfo(st->cur, "Sl", ar);
}

static int op_load(lua_State *L) {
	op *a = op_of(L);
	int rc = luaL_loadbufferx(L, a->p, a->len, (const char *)a->vals, "t");
	if (rc != LUA_OK) return lua_error(L);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

// gl_load leaves the message on the stack when it fails.
int gl_load(gl_state *st, const char *p, size_t n, const char *chunk, gl_val *msg, int *ref) {
	lua_State *L = st->cur;
	op a = {0};
	a.st = st;
	a.p = p;
	a.len = n;
	a.vals = (gl_val *)chunk;
	a.ref2 = LUA_NOREF;
	int rc = protect(L, op_load, &a, 0);
	*ref = a.ref2;
	if (rc != LUA_OK) gl_read(L, -1, msg);
	return rc;
}

// op_traceback runs as a function of its own: levels 0 and 1 are it and the
// Go function that asks.
static int op_traceback(lua_State *L) {
	luaL_traceback(L, L, NULL, 2);
	return 1;
}

int gl_traceback(gl_state *st, gl_val *out) {
	op a = {0};
	int rc = protect(st->cur, op_traceback, &a, 1);
	gl_read(st->cur, -1, out);
	return rc;
}

// ---- life

static int op_open(lua_State *L) {
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "v");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key_objects);

	lua_createtable(L, 0, 2);
	lua_pushcfunction(L, box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key_boxmeta);

	luaL_openlibs(L);
	gl_library(L);
	return 0;
}

gl_state *gl_new(uintptr_t handle) {
	gl_state *st = calloc(1, sizeof *st);
	if (st == NULL) return NULL;
	lua_State *L = luaL_newstate();
	if (L == NULL) {
		free(st);
		return NULL;
	}
	*(gl_state **)lua_getextraspace(L) = st; // Lua copies it into every new thread
	st->L = st->cur = L;
	st->task = &st->host;
	st->host.L = L;
	st->handle = handle;
	gl_hook_install(st);
	op a = {0};
	if (protect(L, op_open, &a, 0) != LUA_OK) {
		gl_close(st);
		return NULL;
	}
	return st;
}

void gl_close(gl_state *st) {
	st->cur = st->L;
	st->task = &st->host;
	st->closing = 1;
	lua_close(st->L);
	free(st->arena.p);
	free(st->dead);
	gl_trace_free(&st->host.stopped);
	free(st);
}

static int op_new_thread(lua_State *L) {
	op *a = op_of(L);
	lua_State *T = lua_newthread(L);
	a->p = (const char *)T;
	a->ref2 = take_ref(L, a->st);
	return 0;
}

gl_task *gl_task_new(gl_state *st, int *ref) {
	gl_task *t = calloc(1, sizeof *t);
	if (t == NULL) return NULL;
	op a = {0};
	if (run_ref(st, op_new_thread, &a, ref) != LUA_OK) {
		free(t);
		return NULL;
	}
	t->L = (lua_State *)a.p;
	return t;
}

void gl_task_free(gl_state *st, gl_task *t, int ref) {
	gl_unref(st, ref);
	gl_trace_free(&t->stopped);
	free(t);
}
