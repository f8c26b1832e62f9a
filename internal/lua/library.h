// Functions in place of those of the standard library which would keep a thread
// from being stopped: coroutines and finalizers.
#ifndef PROVIUM_LUA_LIBRARY_H
#define PROVIUM_LUA_LIBRARY_H

#include "state.h"

// gl_library replaces the functions in the globals of L. It may raise.
void gl_library(lua_State *L);

#endif
