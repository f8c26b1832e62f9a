// What the C files of the binding share and Go does not see.
#ifndef PROVIUM_LUA_INTERNAL_H
#define PROVIUM_LUA_INTERNAL_H

#include "glue.h"

// gl_box is the body of our userdata. The owner tells it from foreign ones,
// whatever metatable somebody gave them.
typedef struct gl_box {
	gl_state *owner;
	int64_t id;
} gl_box;

extern const char key_objects; // registry: id -> userdata, weak
extern const char key_boxmeta; // registry: metatable of the boxes behind functions

// op carries the arguments and results of a function that runs protected.
typedef struct op {
	gl_state *st;
	int ref, ref2, idx, n;
	int64_t id;
	gl_val *vals;
	const char *p;
	size_t len;
} op;

gl_arena arena_take(gl_state *st);
void arena_give(gl_state *st, gl_arena a);
int protect(lua_State *L, lua_CFunction f, op *a, int nres);
op *op_of(lua_State *L);
int take_ref(lua_State *L, gl_state *st);
int run_ref(gl_state *st, lua_CFunction f, op *a, int *ref);
void push_object(lua_State *L, int64_t id, int mt);
gl_box *new_box(lua_State *L, gl_state *st, int64_t id);
int box_gc(lua_State *L);
int message_handler(lua_State *L);

#endif
