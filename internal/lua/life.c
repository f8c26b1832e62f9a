// See life.h.
#include "life.h"

#include "box.h"
#include "hook.h"
#include "library.h"
#include "trace.h"

#include <locale.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

static int op_open(lua_State *L) {
	gl_box_open(L);
	luaL_openlibs(L);
	gl_library(L);
	// Go ends the process without C's exit handlers, so each line is flushed.
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	setlocale(LC_ALL, "C"); // a state before this one may have changed it
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
	gl_op a = {0};
	if (gl_protect(L, op_open, &a, 0) != LUA_OK) {
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

gl_task *gl_task_new(gl_state *st, int *ref) {
	gl_task *t = calloc(1, sizeof *t);
	if (t == NULL) return NULL;
	t->L = gl_new_lua_thread(st, ref);
	if (t->L == NULL) {
		free(t);
		return NULL;
	}
	*(uintptr_t *)lua_getextraspace(t->L) |= 1;
	return t;
}

void gl_task_free(gl_state *st, gl_task *t, int ref) {
	gl_unref(st, ref);
	if (t->aux != NULL) gl_unref(st, t->auxref);
	gl_trace_free(&t->stopped);
	free(t);
}
