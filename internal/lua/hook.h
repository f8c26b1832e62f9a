// The count hook: it stops a thread, and runs the hooks that Lua code sets with
// debug.sethook.
//
// Each Lua thread has the hook from birth, since a new thread inherits it from
// its creator. When the thread which holds the baton is to stop, the hook raises,
// and from then on raises again at each instruction, so that no pcall keeps the
// code running.
#ifndef PROVIUM_LUA_HOOK_H
#define PROVIUM_LUA_HOOK_H

#include "state.h"

// gl_stopped reports whether the thread which holds the baton is to stop.
static inline int gl_stopped(gl_state *st) {
	return __atomic_load_n(&st->task->stop, __ATOMIC_RELAXED) != 0;
}

// gl_raise_stop raises in a thread which is to stop, and records where it was.
int gl_raise_stop(lua_State *L, gl_state *st);

// gl_set_allowhook switches hooks on or off in L, as Lua does within a hook.
void gl_set_allowhook(lua_State *L, gl_state *st, int on);

// gl_hook_install sets the hook in a new state.
void gl_hook_install(gl_state *st);

// gl_sethook and gl_gethook are debug.sethook and debug.gethook.
int gl_sethook(lua_State *L);
int gl_gethook(lua_State *L);

#endif
