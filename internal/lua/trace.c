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

void gl_trace_free(gl_trace *t) {
	free(t->text);
	free(t->source);
	t->text = t->source = NULL;
	t->line = 0;
}

int gl_where(gl_state *st, int level, lua_Debug *ar) {
	if (!lua_getstack(st->cur, level, ar)) return 0;
	return lua_getinfo(st->cur, "Sl", ar);
}

// op_traceback starts at level 2: levels 0 and 1 are itself and the Go function
// which called.
static int op_traceback(lua_State *L) {
	luaL_traceback(L, L, NULL, 2);
	return 1;
}

int gl_traceback(gl_state *st, gl_val *out) {
	gl_op a = {0};
	int rc = gl_protect(st->cur, op_traceback, &a, 1);
	gl_read(st->cur, -1, out);
	return rc;
}
