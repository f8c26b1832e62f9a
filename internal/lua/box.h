// Boxes: the userdata which stand for Go objects and for the ids of Go functions.
#ifndef PROVIUM_LUA_BOX_H
#define PROVIUM_LUA_BOX_H

#include "state.h"

// gl_box is the body of our userdata. The owner distinguishes it from foreign
// ones, whatever metatable they were given.
typedef struct gl_box {
	gl_state *owner;
	int64_t id; // of an object; negative: of a function
} gl_box;

// gl_box_open prepares the registry. It may raise.
void gl_box_open(lua_State *L);

// gl_box_gc is the __gc of all boxes. It puts the id on the state's list of the
// dead, which Go reads later.
int gl_box_gc(lua_State *L);

// gl_push_object pushes the userdata of an object, which is created with the
// metatable behind the reference mt when Lua does not have it.
void gl_push_object(lua_State *L, int64_t id, int mt);

// gl_push_function_box pushes a new box for the id of a function.
void gl_push_function_box(lua_State *L, gl_state *st, int64_t id);

// gl_object_id returns the id of the object whose full userdata is at idx, or 0
// for a userdata which is not an object of ours.
static inline int64_t gl_object_id(lua_State *L, int idx) {
	gl_box *b = lua_touserdata(L, idx);
	if (lua_rawlen(L, idx) != sizeof *b || b->owner != gl_of(L) || b->id < 0) return 0;
	return b->id;
}

// gl_object_alive reports whether Lua has, or has again, a userdata for the id.
int gl_object_alive(gl_state *st, int64_t id);

#endif
