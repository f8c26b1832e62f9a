// Objects and functions of Go as Lua sees them.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

// box_gc runs when Lua has collected a box: Go learns of it when it next looks.
int box_gc(lua_State *L) {
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

gl_box *new_box(lua_State *L, gl_state *st, int64_t id) {
	gl_box *b = lua_newuserdatauv(L, sizeof *b, 0);
	b->owner = st;
	b->id = id;
	return b;
}

// trampoline is every Go function as Lua sees it. Go answers with values or an
// error value; the error is raised here, where no Go frame is left.
static int trampoline(lua_State *L) {
	gl_state *st = gl_of(L);
	if (gl_stopped(st)) return gl_raise_stop(L, st);
	gl_val few[16];
	gl_frame f;
	int n = lua_gettop(L);
	f.st = st;
	f.L = L;
	f.id = lua_tointeger(L, lua_upvalueindex(1));
	f.nargs = n;
	f.args = few;
	f.out = NULL;
	f.nout = 0;
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (n > 16) f.args = lua_newuserdatauv(L, (size_t)n * sizeof *f.args, 0);
	for (int i = 0; i < n; i++) gl_read(L, i + 1, &f.args[i]);

	lua_State *saved = st->cur;
	st->cur = L;
	int rc = gl_go_call(st->handle, &f);
	st->cur = saved;
	if (gl_stopped(st)) return gl_raise_stop(L, st);

	gl_arena mine = arena_take(st);
	if (f.nout > 0 && !lua_checkstack(L, f.nout + LUA_MINSTACK)) {
		arena_give(st, mine);
		return luaL_error(L, "too many results");
	}
	for (int i = 0; i < f.nout; i++) gl_push(L, &f.out[i]);
	arena_give(st, mine);
	if (rc != 0) return lua_error(L);
	return f.nout;
}

static int op_new_function(lua_State *L) {
	op *a = op_of(L);
	lua_pushinteger(L, a->id);
	new_box(L, a->st, -a->id); // negative: the id of a function
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_boxmeta);
	lua_setmetatable(L, -2);
	lua_pushcclosure(L, trampoline, 2);
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_new_function(gl_state *st, int64_t id, int *ref) {
	op a = {0};
	a.id = id;
	return run_ref(st, op_new_function, &a, ref);
}

// push_object gives the userdata that Lua has for the id, or makes one.
void push_object(lua_State *L, int64_t id, int mt) {
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

// gl_object_alive tells whether Lua has, or has again, a userdata for the id.
int gl_object_alive(gl_state *st, int64_t id) {
	lua_State *L = st->cur;
	if (!lua_checkstack(L, 2)) return 1;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &key_objects);
	int alive = lua_rawgeti(L, -1, id) == LUA_TUSERDATA;
	lua_pop(L, 2);
	return alive;
}

// object_index looks among the methods (upvalue 1) before it asks Go (upvalue 2).
static int object_index(lua_State *L) {
	lua_settop(L, 2);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
	lua_pop(L, 1);
	lua_pushvalue(L, lua_upvalueindex(2));
	lua_insert(L, 1);
	lua_call(L, 2, 1);
	return 1;
}

static int op_new_type(lua_State *L) {
	op *a = op_of(L);
	lua_createtable(L, 0, 8);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->idx);
	lua_pushcclosure(L, object_index, 2);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, a->p);
	lua_pushvalue(L, -1);
	lua_setfield(L, -3, "__name");
	lua_setfield(L, -2, "__metatable");
	a->ref2 = take_ref(L, a->st);
	return 0;
}

int gl_new_type(gl_state *st, const char *name, int methods, int index, int *ref) {
	op a = {0};
	a.p = name;
	a.ref = methods;
	a.idx = index;
	return run_ref(st, op_new_type, &a, ref);
}

