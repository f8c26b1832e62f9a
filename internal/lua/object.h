// Functions and types of Go as Lua sees them.
#ifndef PROVIUM_LUA_OBJECT_H
#define PROVIUM_LUA_OBJECT_H

#include "state.h"

// gl_frame is one call from Lua to Go.
typedef struct gl_frame {
	gl_state *st;
	lua_State *L;
	int64_t id;
	gl_val *args;
	int nargs;
	gl_val *out;
	int nout;
	int rc; // what gl_go_call returned, for a call that left its Lua thread
} gl_frame;

// gl_go_call is the function of Go which C calls. It returns 0 when out holds
// the results, or 1 when out[0] is the error value to raise.
extern int gl_go_call(uintptr_t handle, gl_frame *f);

// gl_new_function creates the function of Lua for a function of Go. One that leaves is called
// when lua_resume has returned, where that is possible, so that no C stack waits for it.
int gl_new_function(gl_state *st, int64_t id, int leaves, int *ref);

// gl_new_type creates a metatable. methods is the table of methods, index the
// function for all other members.
int gl_new_type(gl_state *st, const char *name, int methods, int index, int *ref);

#endif
