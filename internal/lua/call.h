// Calls from Go to Lua, and the loading of chunks.
#ifndef PROVIUM_LUA_CALL_H
#define PROVIUM_LUA_CALL_H

#include "state.h"

// gl_result is what a call from Go to Lua left.
typedef struct gl_result {
	int status;
	int base; // stack height to go back to
	int n;
	int nargs; // of gl_start
	gl_val *vals;
	gl_val msg; // status != LUA_OK: the error value as text
	gl_trace trace;
} gl_result;

// gl_call calls vals[0] with the n-1 values after it. Results, or the error
// value and its text, stay on the stack until gl_settop(r->base).
void gl_call(gl_state *st, gl_val *vals, int n, gl_result *r);

// gl_start prepares the task which holds the baton for a call as that of gl_call, and
// gl_resume runs it. That returns 1 when Lua waits for the call of Go in task->left, which Go
// carries out on the stack of task->aux before it calls gl_resume again, and 0 at the end.
void gl_start(gl_state *st, gl_val *vals, int n, gl_result *r);
int gl_resume(gl_state *st, gl_result *r);

// gl_load compiles a text. It leaves the message on the stack when it fails.
int gl_load(gl_state *st, const char *p, size_t n, const char *chunk, gl_val *msg, int *ref);

#endif
