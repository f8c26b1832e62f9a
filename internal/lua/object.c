// See object.h.
#include "object.h"

#include "box.h"
#include "hook.h"
#include "value.h"

// fill describes the call of the function that runs on L.
static void fill(lua_State *L, gl_frame *f, gl_val *args, int n) {
	f->st = gl_of(L);
	f->L = L;
	f->id = lua_tointeger(L, lua_upvalueindex(1));
	f->nargs = n;
	f->args = args;
	f->out = NULL;
	f->nout = f->rc = 0;
	for (int i = 0; i < n; i++) gl_read(L, i + 1, &args[i]);
}

// finish returns to Lua what a call of Go has left.
static int finish(lua_State *L, gl_state *st, gl_frame *f) {
	if (gl_stopped(st)) return gl_raise_stop(L, st);
	gl_arena mine = gl_arena_take(st);
	if (f->nout > 0 && !lua_checkstack(L, f->nout + LUA_MINSTACK)) {
		gl_arena_return(st, mine);
		return luaL_error(L, "too many results");
	}
	for (int i = 0; i < f->nout; i++) gl_push(L, &f->out[i]);
	gl_arena_return(st, mine);
	if (f->rc != 0) return lua_error(L);
	return f->nout;
}

// go_on is where L goes on after it was left for a call of Go.
static int go_on(lua_State *L, int status, lua_KContext ctx) {
	(void)status, (void)ctx;
	gl_state *st = gl_of(L);
	gl_frame *f = st->task->left;
	st->task->left = NULL;
	return finish(L, st, f);
}

// trampoline is the Lua side of all Go functions. Go returns values or an error
// value, which is raised here, where no Go frame is left.
static int trampoline(lua_State *L) {
	gl_state *st = gl_of(L);
	gl_task *t = st->task;
	if (gl_stopped(st)) return gl_raise_stop(L, st);
	gl_val few[16];
	int n = lua_gettop(L);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (L == t->L && t->resumed && lua_toboolean(L, lua_upvalueindex(3)) && lua_isyieldable(L) &&
		gl_aux(st, n) != NULL) {
		gl_frame *left = lua_newuserdatauv(L, sizeof *left + (size_t)n * sizeof(gl_val), 0);
		fill(L, left, (gl_val *)(left + 1), n);
		t->left = left;
		return lua_yieldk(L, 0, 0, go_on);
	}
	gl_frame f;
	fill(L, &f, n > 16 ? lua_newuserdatauv(L, (size_t)n * sizeof(gl_val), 0) : few, n);
	lua_State *saved = st->cur;
	st->cur = L;
	f.rc = gl_go_call(st->handle, &f);
	st->cur = saved;
	return finish(L, st, &f);
}

static int op_new_function(lua_State *L) {
	gl_op *a = gl_op_of(L);
	lua_pushinteger(L, a->id);
	gl_push_function_box(L, a->st, a->id);
	lua_pushboolean(L, a->n);
	lua_pushcclosure(L, trampoline, 3);
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_new_function(gl_state *st, int64_t id, int leaves, int *ref) {
	gl_op a = {0};
	a.id = id;
	a.n = leaves;
	return gl_protect_ref(st, op_new_function, &a, ref);
}

// object_index looks for a method (upvalue 1) before it calls Go (upvalue 2).
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
	gl_op *a = gl_op_of(L);
	lua_createtable(L, 0, 8);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->ref);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->idx);
	lua_pushcclosure(L, object_index, 2);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, gl_box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, a->p);
	lua_pushvalue(L, -1);
	lua_setfield(L, -3, "__name");
	lua_setfield(L, -2, "__metatable");
	a->ref2 = gl_take_ref(L, a->st);
	return 0;
}

int gl_new_type(gl_state *st, const char *name, int methods, int index, int *ref) {
	gl_op a = {0};
	a.p = name;
	a.ref = methods;
	a.idx = index;
	return gl_protect_ref(st, op_new_type, &a, ref);
}
