// See box.h.
#include "box.h"

#include <stdlib.h>

static const char key_objects;   // registry: id -> userdata, weak
static const char key_functions; // registry: metatable of the boxes of functions

void gl_box_open(lua_State *L) {
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "v");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key_objects);

	lua_createtable(L, 0, 2);
	lua_pushcfunction(L, gl_box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key_functions);
}

int gl_box_gc(lua_State *L) {
	gl_box *b = lua_touserdata(L, 1);
	gl_state *st = gl_of(L);
	if (b == NULL || lua_rawlen(L, 1) != sizeof *b || b->owner != st) return 0;
	if (b->id != 0 && !st->closing) {
		if (st->ndead == st->capdead) {
			size_t cap = st->capdead ? st->capdead * 2 : 64;
			int64_t *p = realloc(st->dead, cap * sizeof *p);
			if (p == NULL) return 0; // the object stays until the state ends
			st->dead = p;
			st->capdead = cap;
		}
		st->dead[st->ndead++] = b->id;
	}
	b->owner = NULL;
	return 0;
}

static gl_box *new_box(lua_State *L, gl_state *st, int64_t id) {
	gl_box *b = lua_newuserdatauv(L, sizeof *b, 0);
	b->owner = st;
	b->id = id;
	return b;
}

void gl_push_function_box(lua_State *L, gl_state *st, int64_t id) {
	new_box(L, st, -id);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_functions);
	lua_setmetatable(L, -2);
}

void gl_push_object(lua_State *L, int64_t id, int mt) {
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_objects);
	if (lua_rawgeti(L, -1, id) != LUA_TUSERDATA) {
		lua_pop(L, 1);
		new_box(L, gl_of(L), id);
		lua_rawgeti(L, LUA_REGISTRYINDEX, mt);
		lua_setmetatable(L, -2);
		lua_pushvalue(L, -1);
		lua_rawseti(L, -3, id);
	}
	lua_remove(L, -2);
}

int gl_object_alive(gl_state *st, int64_t id) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 2)) return 1;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_objects);
	int alive = lua_rawgeti(L, -1, id) == LUA_TUSERDATA;
	lua_pop(L, 2);
	return alive;
}
