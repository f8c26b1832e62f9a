// The count hook: it stops a thread that was told to stop, and carries the
// hooks that Lua code sets with debug.sethook.
//
// Every Lua thread has the hook from birth (a new thread inherits it from its
// creator). When the thread that holds the baton is to be stopped, the hook
// raises, and from then on raises again at each instruction, so that no pcall
// keeps the code going.
//
// Lua switches hooks off inside a hook, and an error raised from one leaves
// them off in a dead coroutine (its __close handlers could then loop for ever)
// and in message handlers. The switch is a private byte of lua_State. It stands
// at the same place in every 5.4 release; probe checks that before it is used.
#include "glue.h"

#include <stdlib.h>
#include <string.h>

enum {
	interval = 1000,         // instructions between two looks at the stop flag
	closing_budget = 20000,  // intervals that all finalizers of a closing state get
	allowhook_offset = sizeof(void *) + 3,
};

// key_hooks is the table of user hooks in the registry, under the name that the
// standard library uses: thread -> {function, mask, count, left, running}.
static const char key_hooks[] = "_HOOKKEY";

enum { H_FUNC = 1, H_MASK, H_COUNT, H_LEFT, H_RUNNING };

int gl_stopped(gl_state *st) {
	return __atomic_load_n(&st->task->stop, __ATOMIC_RELAXED) != 0;
}

void gl_set_allowhook(lua_State *L, gl_state *st, int on) {
	if (st->allowhook) ((unsigned char *)L)[allowhook_offset] = (unsigned char)on;
}

static void hook(lua_State *L, lua_Debug *ar);

// gl_raise_stop notes where the thread was at first and raises.
int gl_raise_stop(lua_State *L, gl_state *st) {
	gl_task *t = st->task;
	// After the raise a message handler, a __close or the next instruction
	// behind a pcall comes here again at once.
	lua_sethook(L, hook, LUA_MASKCOUNT, 1);
	if (t->L != NULL && t->L != L) lua_sethook(t->L, hook, LUA_MASKCOUNT, 1);
	gl_set_allowhook(L, st, 1);
	if (t->stopped.text == NULL) {
		// The traceback must not be stopped itself; it runs no Lua code.
		gl_capture(L, &t->stopped, 0);
	}
	lua_pushliteral(L, "interrupted");
	return lua_error(L);
}

// push_thread pushes on L the thread of.
static void push_thread(lua_State *L, lua_State *of) {
	if (of != L && !lua_checkstack(of, 1)) luaL_error(L, "stack overflow");
	lua_pushthread(of);
	if (of != L) lua_xmove(of, L, 1);
}

// hook_entry pushes the entry of L's user hook, or answers 0 and pushes nothing.
static int hook_entry(lua_State *L, lua_State *of) {
	if (lua_getfield(L, LUA_REGISTRYINDEX, key_hooks) != LUA_TTABLE) {
		lua_pop(L, 1);
		return 0;
	}
	push_thread(L, of);
	lua_rawget(L, -2);
	lua_remove(L, -2);
	if (lua_istable(L, -1)) return 1;
	lua_pop(L, 1);
	return 0;
}

static lua_Integer entry_int(lua_State *L, int entry, int field) {
	lua_rawgeti(L, entry, field);
	lua_Integer n = lua_tointeger(L, -1);
	lua_pop(L, 1);
	return n;
}

static void entry_set(lua_State *L, int entry, int field, lua_Integer n) {
	lua_pushinteger(L, n);
	lua_rawseti(L, entry, field);
}

// arm sets our hook in L together with what the user wants.
static void arm(lua_State *L, int mask, lua_Integer count) {
	int step = interval;
	if ((mask & LUA_MASKCOUNT) && count < interval) step = (int)count;
	lua_sethook(L, hook, mask | LUA_MASKCOUNT, step);
}

static void user_hook(lua_State *L, gl_state *st, lua_Debug *ar) {
	static const char *const names[] = {"call", "return", "line", "count", "tail call"};
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (!hook_entry(L, L)) return;
	int entry = lua_gettop(L);
	if (entry_int(L, entry, H_RUNNING)) goto done;
	if (ar->event == LUA_HOOKCOUNT) {
		lua_Integer count = entry_int(L, entry, H_COUNT);
		if (count <= 0) goto done;
		lua_Integer left = entry_int(L, entry, H_LEFT) - (count < interval ? count : interval);
		entry_set(L, entry, H_LEFT, left > 0 ? left : count);
		if (left > 0) goto done;
	}
	entry_set(L, entry, H_RUNNING, 1);
	lua_rawgeti(L, entry, H_FUNC);
	lua_pushstring(L, names[ar->event]);
	if (ar->currentline >= 0) // set for line events only
		lua_pushinteger(L, ar->currentline);
	else
		lua_pushnil(L);
	// While the user's function runs, only our own hook is on: it can be stopped.
	lua_sethook(L, hook, LUA_MASKCOUNT, interval);
	gl_set_allowhook(L, st, 1);
	int rc = lua_pcall(L, 2, 0, 0);
	gl_set_allowhook(L, st, 0);
	int err = rc == LUA_OK ? 0 : lua_gettop(L);
	if (hook_entry(L, L)) { // it may have set another hook, or none
		int now = lua_gettop(L);
		entry_set(L, now, H_RUNNING, 0);
		arm(L, (int)entry_int(L, now, H_MASK), entry_int(L, now, H_COUNT));
	}
	if (gl_stopped(st)) gl_raise_stop(L, st);
	if (err) {
		lua_pushvalue(L, err);
		lua_error(L);
	}
done:
	lua_settop(L, entry - 1);
}

static void hook(lua_State *L, lua_Debug *ar) {
	gl_state *st = gl_of(L);
	if (gl_stopped(st)) gl_raise_stop(L, st);
	if (st->closing && --st->ticks <= 0) {
		lua_sethook(L, hook, LUA_MASKCOUNT, 1);
		gl_set_allowhook(L, st, 1);
		lua_pushliteral(L, "finalizer took too long");
		lua_error(L);
	}
	if (st->userhooks) user_hook(L, st, ar);
}

// ---- debug.sethook and debug.gethook

static lua_State *thread_arg(lua_State *L, int *arg) {
	if (lua_isthread(L, 1)) {
		*arg = 1;
		return lua_tothread(L, 1);
	}
	*arg = 0;
	return L;
}

static int sethook(lua_State *L) {
	int arg;
	lua_State *of = thread_arg(L, &arg);
	gl_state *st = gl_of(L);
	int mask = 0;
	lua_Integer count = 0;
	if (lua_isnoneornil(L, arg + 1)) {
		lua_settop(L, arg + 1);
	} else {
		const char *s = luaL_checkstring(L, arg + 2);
		luaL_checktype(L, arg + 1, LUA_TFUNCTION);
		count = luaL_optinteger(L, arg + 3, 0);
		if (strchr(s, 'c')) mask |= LUA_MASKCALL;
		if (strchr(s, 'r')) mask |= LUA_MASKRET;
		if (strchr(s, 'l')) mask |= LUA_MASKLINE;
		if (count > 0)
			mask |= LUA_MASKCOUNT;
		else
			count = 0;
	}
	if (lua_getfield(L, LUA_REGISTRYINDEX, key_hooks) != LUA_TTABLE) {
		lua_newtable(L);
		lua_createtable(L, 0, 1);
		lua_pushliteral(L, "k");
		lua_setfield(L, -2, "__mode");
		lua_setmetatable(L, -2);
		lua_pushvalue(L, -1);
		lua_setfield(L, LUA_REGISTRYINDEX, key_hooks);
	}
	int hooks = lua_gettop(L);
	// A hook that sets a hook must not be hooked itself: arming waits for its end.
	int running = 0;
	if (hook_entry(L, of)) {
		running = (int)entry_int(L, lua_gettop(L), H_RUNNING);
		lua_pop(L, 1);
	}
	push_thread(L, of);
	if (mask == 0 && !running) {
		lua_pushnil(L);
	} else {
		lua_createtable(L, H_RUNNING, 0);
		int entry = lua_gettop(L);
		lua_pushvalue(L, arg + 1);
		lua_rawseti(L, entry, H_FUNC);
		entry_set(L, entry, H_MASK, mask);
		entry_set(L, entry, H_COUNT, count);
		entry_set(L, entry, H_LEFT, count);
		entry_set(L, entry, H_RUNNING, running);
		st->userhooks = 1;
	}
	lua_rawset(L, hooks);
	if (!running) arm(of, mask, count);
	return 0;
}

static int gethook(lua_State *L) {
	int arg;
	lua_State *of = thread_arg(L, &arg);
	char s[4], *p = s;
	lua_settop(L, arg);
	if (!hook_entry(L, of)) {
		luaL_pushfail(L);
		return 1;
	}
	int entry = lua_gettop(L);
	int mask = (int)entry_int(L, entry, H_MASK);
	if (mask == 0) { // taken away by a hook that still runs, or was
		luaL_pushfail(L);
		return 1;
	}
	if (mask & LUA_MASKCALL) *p++ = 'c';
	if (mask & LUA_MASKRET) *p++ = 'r';
	if (mask & LUA_MASKLINE) *p++ = 'l';
	lua_rawgeti(L, entry, H_FUNC);
	lua_pushlstring(L, s, (size_t)(p - s));
	lua_pushinteger(L, entry_int(L, entry, H_COUNT));
	return 3;
}

// ---- coroutines

// Resuming a coroutine is done here, not by Lua's library, for one look at the
// stop flag after it: without that, coroutines that resume coroutines could
// each run on for an interval, which multiplies with the depth.

// resume runs co with narg values from L's stack. It leaves the results or one
// error value on L and answers their number or -1.
static int resume(lua_State *L, lua_State *co, int narg) {
	int nres = 0;
	if (!lua_checkstack(co, narg)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	lua_xmove(L, co, narg);
	int rc = lua_resume(co, L, narg, &nres);
	gl_state *st = gl_of(L);
	if (gl_stopped(st)) gl_raise_stop(L, st);
	if (rc != LUA_OK && rc != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nres);
	return nres;
}

static int co_resume(lua_State *L) {
	lua_State *co = lua_tothread(L, 1);
	luaL_argexpected(L, co != NULL, 1, "coroutine");
	int n = resume(L, co, lua_gettop(L) - 1);
	lua_pushboolean(L, n >= 0);
	if (n < 0) n = 1;
	lua_insert(L, -(n + 1));
	return n + 1;
}

static int co_wrapped(lua_State *L) {
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	luaL_argexpected(L, co != NULL, 1, "coroutine");
	int n = resume(L, co, lua_gettop(L));
	if (n >= 0) return n;
	int status = lua_status(co);
	if (status != LUA_OK && status != LUA_YIELD) { // it died: close what it holds
		status = lua_resetthread(co);
		lua_xmove(co, L, 1);
	}
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

static int co_wrap(lua_State *L) {
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_State *co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, co_wrapped, 1);
	return 1;
}

// A thread of the host is to Lua code what the main thread is to a plain
// interpreter: running says so, and yield fails with the same words.

static int co_running(lua_State *L) {
	lua_pushthread(L);
	lua_pushboolean(L, L == gl_of(L)->task->L);
	return 2;
}

static int co_yield(lua_State *L) {
	if (L == gl_of(L)->task->L) return luaL_error(L, "attempt to yield from outside a coroutine");
	return lua_yield(L, lua_gettop(L));
}

// ---- finalizers

// guarded_gc runs a __gc handler (upvalue 1) with hooks on, so that a handler
// that never ends can be stopped like other code.
static int guarded_gc(lua_State *L) {
	gl_state *st = gl_of(L);
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	gl_set_allowhook(L, st, 1);
	st->gcdepth++;
	int rc = lua_pcall(L, lua_gettop(L) - 1, 0, 0);
	st->gcdepth--;
	gl_set_allowhook(L, st, 0);
	return rc == LUA_OK ? 0 : lua_error(L);
}

// guard replaces a Lua function as __gc of the metatable at idx.
static void guard(lua_State *L, int idx) {
	lua_pushliteral(L, "__gc");
	if (lua_rawget(L, idx) == LUA_TFUNCTION && !lua_iscfunction(L, -1)) {
		lua_pushliteral(L, "__gc");
		lua_insert(L, -2);
		lua_pushcclosure(L, guarded_gc, 1);
		lua_rawset(L, idx);
	} else {
		lua_pop(L, 1);
	}
}

static int setmetatable(lua_State *L) {
	int t = lua_type(L, 2);
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_argexpected(L, t == LUA_TNIL || t == LUA_TTABLE, 2, "nil or table");
	if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
		return luaL_error(L, "cannot change a protected metatable");
	if (t == LUA_TTABLE) guard(L, 2);
	lua_settop(L, 2);
	lua_setmetatable(L, 1);
	return 1;
}

static int debug_setmetatable(lua_State *L) {
	int t = lua_type(L, 2);
	luaL_argexpected(L, t == LUA_TNIL || t == LUA_TTABLE, 2, "nil or table");
	if (t == LUA_TTABLE) guard(L, 2);
	lua_settop(L, 2);
	lua_setmetatable(L, 1);
	return 1;
}

// gl_library puts our functions in the place of the library's.
void gl_library(lua_State *L) {
	static const luaL_Reg debug[] = {
		{"sethook", sethook},
		{"gethook", gethook},
		{"setmetatable", debug_setmetatable},
		{NULL, NULL},
	};
	static const luaL_Reg coroutine[] = {
		{"resume", co_resume},
		{"wrap", co_wrap},
		{"running", co_running},
		{"yield", co_yield},
		{NULL, NULL},
	};
	lua_getglobal(L, "debug");
	luaL_setfuncs(L, debug, 0);
	lua_getglobal(L, "coroutine");
	luaL_setfuncs(L, coroutine, 0);
	lua_pop(L, 2);
	lua_pushcfunction(L, setmetatable);
	lua_setglobal(L, "setmetatable");
}

// ---- start

static void probe(lua_State *L, lua_Debug *ar) {
	(void)ar;
	gl_of(L)->allowhook = ((unsigned char *)L)[allowhook_offset] == 0;
}

void gl_hook_install(gl_state *st) {
	lua_State *L = st->L;
	unsigned char *flag = (unsigned char *)L + allowhook_offset;
	st->ticks = closing_budget;
	if (*flag == 1) {
		lua_sethook(L, probe, LUA_MASKCOUNT, 1);
		if (luaL_dostring(L, "local a = 1") != LUA_OK) st->allowhook = 0;
		lua_settop(L, 0);
		if (*flag != 1) st->allowhook = 0;
	}
	lua_sethook(L, hook, LUA_MASKCOUNT, interval);
}
