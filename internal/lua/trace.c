// See trace.h.
#include "trace.h"

#include "value.h"

#include <stdlib.h>
#include <string.h>

void gl_trace_capture(lua_State *L, gl_trace *t, int level) {
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
		// Inside a coroutine, add the code which resumed it.
		luaL_traceback(L, st->task->L, "\nfrom the coroutine's caller:", 0);
		lua_concat(L, 2);
	}
	t->text = strdup(lua_tostring(L, -1));
	lua_pop(L, 1);
}

// op_dead records where the dead thread a->p was.
static int op_dead(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_State *dead = (lua_State *)a->p;
	gl_trace *t = (gl_trace *)a->vals;
	lua_Debug ar;
	for (int i = 0; lua_getstack(dead, i, &ar); i++) {
		lua_getinfo(dead, "Sl", &ar);
		if (ar.currentline > 0) {
			t->source = strdup(ar.source);
			t->line = ar.currentline;
			break;
		}
	}
	luaL_traceback(L, dead, NULL, 0);
	t->text = strdup(lua_tostring(L, -1));
	return 0;
}

void gl_trace_dead(gl_state *st, lua_State *dead, gl_trace *t) {
	gl_op a = {0};
	a.p = (const char *)dead;
	a.vals = (gl_val *)t;
	gl_trace_free(t);
	if (gl_protect(st->L, op_dead, &a, 0) != LUA_OK) lua_pop(st->L, 1);
}

void gl_trace_free(gl_trace *t) {
	free(t->text);
	free(t->source);
	t->text = t->source = NULL;
	t->line = 0;
}

int gl_where(gl_state *st, int level, lua_Debug *ar) {
	lua_State *at = gl_at(st);
	if (!lua_getstack(at, level, ar)) return 0;
	return lua_getinfo(at, "Sl", ar);
}

// op_traceback describes the stack of a->p. It leaves out the Go function which called, and
// itself.
static int op_traceback(lua_State *L) {
	lua_State *at = (lua_State *)gl_op_of(L)->p;
	luaL_traceback(L, at, NULL, at == L ? 2 : 1);
	return 1;
}

int gl_traceback(gl_state *st, gl_val *out) {
	gl_op a = {0};
	a.p = (const char *)gl_at(st);
	int rc = gl_protect(st->cur, op_traceback, &a, 1);
	gl_read(st->cur, -1, out);
	return rc;
}
