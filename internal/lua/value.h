// Values between Go and Lua, and access to tables.
#ifndef PROVIUM_LUA_VALUE_H
#define PROVIUM_LUA_VALUE_H

#include "box.h"

// gl_read describes the value at idx. What v points to is valid as long as the
// value is on the stack.
void gl_read(lua_State *L, int idx, gl_val *v);

// gl_push pushes v. It may raise.
void gl_push(lua_State *L, const gl_val *v);

// gl_ref_string creates a reference to a new string.
int gl_ref_string(gl_state *st, const char *p, size_t n, int *ref);

// gl_get leaves the value on the stack, so that out stays valid.
int gl_get(gl_state *st, int ref, gl_val *key, gl_val *out);
int gl_set(gl_state *st, int ref, gl_val *kv);
int64_t gl_len(gl_state *st, int ref);

// gl_next leaves key and value on the stack. A nil key is the end.
int gl_next(gl_state *st, int ref, gl_val *key, gl_val *out);
int gl_new_table(gl_state *st, int narr, int nrec, int *ref);
int gl_globals(gl_state *st, int *ref);
uintptr_t gl_pointer(gl_state *st, int ref);

#endif
