// See call.h.
#include "call.h"

#include "hook.h"
#include "trace.h"
#include "value.h"

#include <string.h>

// message_handler records where an error is raised, unless the thread is stopped: then
// hook has recorded it.
static int message_handler(lua_State *L) {
	gl_state *st = gl_of(L);
	if (st->task->trace != NULL && !gl_stopped(st)) gl_trace_capture(L, st->task->trace, 1);
	return 1;
}

static int op_push(lua_State *L) {
	gl_op *a = gl_op_of(L);
	luaL_checkstack(L, a->n + LUA_MINSTACK, "too many arguments");
	for (int i = 0; i < a->n; i++) gl_push(L, &a->vals[i]);
	return a->n;
}

// op_message returns the text of an error value.
static int op_message(lua_State *L) {
	if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
	if (lua_type(L, 1) == LUA_TSTRING || lua_type(L, 1) == LUA_TNUMBER)
		luaL_tolstring(L, 1, NULL);
	else
		lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
	return 1;
}

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
	gl_op a = {0};
	a.vals = vals;
	a.n = n;
	gl_arena mine = gl_arena_take(st);
	r->status = gl_protect(L, op_push, &a, LUA_MULTRET);
	gl_arena_return(st, mine);
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
		lua_pcall(L, 1, 1, 0); // if it fails, its own error is the text
		gl_read(L, -1, &r->msg);
		if (r->msg.kind != GL_STRING) {
			static const char odd[] = "(error object whose __tostring fails)";
			r->msg.kind = GL_STRING;
			r->msg.p = odd;
			r->msg.n = sizeof odd - 1;
		}
	}
	if (r->n == 0) return;
	if (!gl_arena_reserve(st, (size_t)r->n * sizeof *r->vals)) {
		r->n = 0;
		return;
	}
	r->vals = (gl_val *)st->arena.p;
	for (int i = 0; i < r->n; i++) gl_read(L, r->base + 2 + i, &r->vals[i]);
}

static int op_load(lua_State *L) {
	gl_op *a = gl_op_of(L);
	int rc = luaL_loadbufferx(L, a->p, a->len, (const char *)a->vals, "t");
	if (rc != LUA_OK) return lua_error(L);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_load(gl_state *st, const char *p, size_t n, const char *chunk, gl_val *msg, int *ref) {
	lua_State *L = st->cur;
	gl_op a = {0};
	a.st = st;
	a.p = p;
	a.len = n;
	a.vals = (gl_val *)chunk;
	a.ref2 = LUA_NOREF;
	int rc = gl_protect(L, op_load, &a, 0);
	*ref = a.ref2;
	if (rc != LUA_OK) gl_read(L, -1, msg);
	return rc;
}
