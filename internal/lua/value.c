// See value.h.
#include "value.h"

#include <string.h>

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
	case LUA_TUSERDATA:
		v->i = gl_object_id(L, idx);
		v->kind = v->i != 0 ? GL_OBJECT : GL_USERDATA;
		break;
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
		gl_push_object(L, v->i, v->ref);
		break;
	default:
		lua_pushnil(L);
	}
}

static int op_ref(lua_State *L) {
	gl_op *a = gl_op_of(L);
	gl_push(L, a->vals);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_ref_string(gl_state *st, const char *p, size_t n, int *ref) {
	gl_val v = {GL_STRING, 0, 0, p, n};
	gl_op a = {0};
	a.vals = &v;
	return gl_protect_ref(st, op_ref, &a, ref);
}

// ---- tables

static int op_get(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, a->vals);
	lua_rawget(L, -2);
	return 1;
}

int gl_get(gl_state *st, int ref, gl_val *key, gl_val *out) {
	lua_State *L = st->cur;
	gl_op a = {0};
	a.ref = ref;
	a.vals = key;
	gl_arena mine = gl_arena_take(st);
	int rc = gl_protect(L, op_get, &a, 1);
	gl_arena_return(st, mine);
	gl_read(L, -1, out);
	return rc;
}

static int op_set(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, &a->vals[0]);
	gl_push(L, &a->vals[1]);
	lua_rawset(L, -3);
	return 0;
}

int gl_set(gl_state *st, int ref, gl_val *kv) {
	lua_State *L = st->cur;
	gl_op a = {0};
	a.ref = ref;
	a.vals = kv;
	gl_arena mine = gl_arena_take(st);
	int rc = gl_protect(L, op_set, &a, 0);
	gl_arena_return(st, mine);
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
	gl_op *a = gl_op_of(L);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	gl_push(L, a->vals);
	a->n = lua_next(L, -2);
	if (!a->n) {
		lua_pushnil(L);
		lua_pushnil(L);
	}
	return 2;
}

int gl_next(gl_state *st, int ref, gl_val *key, gl_val *out) {
	lua_State *L = st->cur;
	gl_op a = {0};
	a.ref = ref;
	a.vals = key;
	gl_arena mine = gl_arena_take(st);
	int rc = gl_protect(L, op_next, &a, 2);
	gl_arena_return(st, mine);
	if (rc != LUA_OK) {
		gl_read(L, -1, &out[0]);
		return rc;
	}
	gl_read(L, -2, &out[0]);
	gl_read(L, -1, &out[1]);
	return rc;
}

static int op_new_table(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_createtable(L, a->idx, a->n);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_new_table(gl_state *st, int narr, int nrec, int *ref) {
	gl_op a = {0};
	a.idx = narr;
	a.n = nrec;
	return gl_protect_ref(st, op_new_table, &a, ref);
}

static int op_globals(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_pushglobaltable(L);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_globals(gl_state *st, int *ref) {
	gl_op a = {0};
	return gl_protect_ref(st, op_globals, &a, ref);
}

uintptr_t gl_pointer(gl_state *st, int ref) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 1)) return 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
	uintptr_t p = (uintptr_t)lua_topointer(L, -1);
	lua_pop(L, 1);
	return p;
}
