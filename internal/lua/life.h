// Opening and closing a state, and the threads in it.
#ifndef PROVIUM_LUA_LIFE_H
#define PROVIUM_LUA_LIFE_H

#include "state.h"

gl_state *gl_new(uintptr_t handle);
void gl_close(gl_state *st);
gl_task *gl_task_new(gl_state *st, int *ref);
void gl_task_free(gl_state *st, gl_task *t, int ref);

#endif
