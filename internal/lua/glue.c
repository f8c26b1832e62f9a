// The state, its arena, and the protected operations that all else is made of.
// Every function that Go calls runs what may raise under lua_pcall, so no error
// ever crosses a Go frame.
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char key_objects;
const char key_boxmeta;

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
gl_arena arena_take(gl_state *st) {
	gl_arena a = st->arena;
	st->arena.p = NULL;
	st->arena.cap = 0;
	return a;
}

void arena_give(gl_state *st, gl_arena a) {
	if (st->arena.p == NULL && a.cap <= 64 * 1024)
		st->arena = a;
	else
		free(a.p);
}

// ---- protected operations

// protect runs f with a as its only argument and leaves nres results.
int protect(lua_State *L, lua_CFunction f, op *a, int nres) {
	if (!lua_checkstack(L, LUA_MINSTACK)) return LUA_ERRMEM;
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, a);
	return lua_pcall(L, 1, nres, 0);
}

op *op_of(lua_State *L) {
	return (op *)lua_touserdata(L, 1);
}

// take_ref makes the value at the top a reference.
int take_ref(lua_State *L, gl_state *st) {
	int ref = luaL_ref(L, LUA_REGISTRYINDEX);
	st->refs++;
	return ref;
}

// run is protect for operations that end in one reference and leave nothing.
int run_ref(gl_state *st, lua_CFunction f, op *a, int *ref) {
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
	// Go ends the process without C's exit handlers and without notice: a line is out
	// when it is written.
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
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
	fflush(stdout);
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
