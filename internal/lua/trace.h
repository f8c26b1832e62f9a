// Where an error was raised.
#ifndef PROVIUM_LUA_TRACE_H
#define PROVIUM_LUA_TRACE_H

#include "state.h"

// gl_trace_capture records the Lua stack and the nearest Lua line from level on.
// It may raise when memory is out.
void gl_trace_capture(lua_State *L, gl_trace *t, int level);
void gl_trace_free(gl_trace *t);

// gl_trace_dead is gl_trace_capture for a thread that an error has ended. It does not raise.
void gl_trace_dead(gl_state *st, lua_State *dead, gl_trace *t);

// gl_where describes the function at a stack level. It returns 0 beyond the last.
int gl_where(gl_state *st, int level, lua_Debug *ar);

// gl_traceback leaves the text on the stack.
int gl_traceback(gl_state *st, gl_val *out);

#endif
