// See call.h.
#include "call.h"

#include "hook.h"
#include "object.h"
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

// begin pushes a function and its arguments, and sets the status.
static void begin(gl_state *st, gl_val *vals, int n, gl_result *r) {
	gl_op a = {0};
	a.vals = vals;
	a.n = n;
	gl_arena mine = gl_arena_take(st);
	r->status = gl_protect(st->cur, op_push, &a, LUA_MULTRET);
	gl_arena_return(st, mine);
}

// read_results describes the results, or the error value, that are above the stack height
// first.
static void read_results(gl_state *st, int first, gl_result *r) {
	lua_State *L = st->cur;
	if (r->status == LUA_OK) {
		r->n = lua_gettop(L) - first;
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
	for (int i = 0; i < r->n; i++) gl_read(L, first + 1 + i, &r->vals[i]);
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
	begin(st, vals, n, r);
	if (r->status == LUA_OK) {
		gl_trace *saved = st->task->trace;
		gl_task *task = st->task;
		task->trace = &r->trace;
		r->status = lua_pcall(L, n - 1, LUA_MULTRET, r->base + 1);
		task->trace = saved;
	}
	read_results(st, r->base + 1, r);
}

void gl_start(gl_state *st, gl_val *vals, int n, gl_result *r) {
	memset(r, 0, sizeof *r);
	begin(st, vals, n, r);
	if (r->status != LUA_OK) read_results(st, lua_gettop(st->cur) - 1, r);
	r->nargs = n - 1;
}

int gl_resume(gl_state *st, gl_result *r) {
	gl_task *t = st->task;
	lua_State *L = t->L;
	int nres = 0;
	if (t->left != NULL) lua_settop(t->aux, 0);
	t->resumed = 1;
	r->status = lua_resume(L, NULL, t->left != NULL ? 0 : r->nargs, &nres);
	t->resumed = 0;
	if (r->status == LUA_YIELD) {
		// The arguments are where Go code looks for them.
		for (int i = 1; i <= t->left->nargs; i++) {
			lua_pushvalue(L, i);
			lua_xmove(L, t->aux, 1);
		}
		return 1;
	}
	t->left = NULL;
	if (r->status != LUA_OK) {
		if (!gl_stopped(st)) gl_trace_dead(st, L, &r->trace);
		lua_resetthread(L); // closes what is to be closed, and leaves the error value alone
	}
	read_results(st, 0, r);
	return 0;
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
