// See state.h.
#include "state.h"

#include <stdlib.h>

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

gl_arena gl_arena_take(gl_state *st) {
	gl_arena a = st->arena;
	st->arena.p = NULL;
	st->arena.cap = 0;
	return a;
}

void gl_arena_return(gl_state *st, gl_arena a) {
	if (st->arena.p == NULL && a.cap <= 64 * 1024)
		st->arena = a;
	else
		free(a.p);
}

// ---- protected operations

int gl_protect(lua_State *L, lua_CFunction f, gl_op *a, int nres) {
	if (!lua_checkstack(L, LUA_MINSTACK)) return LUA_ERRMEM;
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, a);
	return lua_pcall(L, 1, nres, 0);
}

gl_op *gl_op_of(lua_State *L) {
	return (gl_op *)lua_touserdata(L, 1);
}

int gl_protect_ref(gl_state *st, lua_CFunction f, gl_op *a, int *ref) {
	lua_State *L = st->cur;
	a->st = st;
	a->ref2 = LUA_NOREF;
	int rc = gl_protect(L, f, a, 0);
	if (rc != LUA_OK)
		lua_pop(L, 1);
	*ref = a->ref2;
	return rc;
}

// ---- references

int gl_take_ref(lua_State *L, gl_state *st) {
	int ref = luaL_ref(L, LUA_REGISTRYINDEX);
	st->refs++;
	return ref;
}

static int op_ref_top(lua_State *L) {
	gl_op *a = gl_op_of(L);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_ref(gl_state *st, int idx, int *ref) {
	lua_State *L = st->cur;
	idx = lua_absindex(L, idx);
	if (!lua_checkstack(L, 4)) return LUA_ERRMEM;
	gl_op a = {0};
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

static int op_new_thread(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_State *T = lua_newthread(L);
	a->p = (const char *)T;
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

lua_State *gl_new_lua_thread(gl_state *st, int *ref) {
	gl_op a = {0};
	if (gl_protect_ref(st, op_new_thread, &a, ref) != LUA_OK) return NULL;
	return (lua_State *)a.p;
}

lua_State *gl_aux(gl_state *st, int n) {
	gl_task *t = st->task;
	if (t->aux == NULL) t->aux = gl_new_lua_thread(st, &t->auxref);
	return t->aux != NULL && lua_checkstack(t->aux, n + LUA_MINSTACK) ? t->aux : NULL;
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

// ---- memory

static int op_collect(lua_State *L) {
	lua_gc(L, LUA_GCCOLLECT);
	return 0;
}

int gl_collect(gl_state *st) {
	gl_op a = {0};
	int rc = gl_protect(st->cur, op_collect, &a, 0);
	if (rc != LUA_OK) lua_pop(st->cur, 1);
	return rc;
}

int64_t gl_memory(gl_state *st) {
	return (int64_t)lua_gc(st->cur, LUA_GCCOUNT) * 1024 + lua_gc(st->cur, LUA_GCCOUNTB);
}
