// See library.h.
#include "library.h"

#include "hook.h"

// ---- coroutines

// Resuming a coroutine is done here, not by Lua's library, to check the stop flag
// after it: otherwise coroutines which resume coroutines could each run on for an
// interval, which multiplies with the depth.

// resume runs co with narg values from L's stack. It leaves the results or one
// error value on L and returns their number or -1.
static int resume(lua_State *L, lua_State *co, int narg) {
	int nres = 0;
	if (gl_is_task(co)) { // it may wait for a call of Go
		lua_pushliteral(L, "cannot resume non-suspended coroutine");
		return -1;
	}
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
	if (status != LUA_OK && status != LUA_YIELD) { // it died: close its variables
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

// A thread of the host appears to Lua code as the main thread: running reports so,
// and yield fails with the same words.

static int co_running(lua_State *L) {
	lua_pushthread(L);
	lua_pushboolean(L, L == gl_of(L)->task->L);
	return 2;
}

static int co_yield(lua_State *L) {
	if (L == gl_of(L)->task->L) return luaL_error(L, "attempt to yield from outside a coroutine");
	return lua_yield(L, lua_gettop(L));
}

static int co_isyieldable(lua_State *L) {
	lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
	lua_pushboolean(L, !gl_is_task(co) && lua_isyieldable(co));
	return 1;
}

// co_status and co_close know that a thread of the host is never suspended. For others they
// call what Lua's library has, upvalue 1.

static int co_status(lua_State *L) {
	lua_State *co = lua_tothread(L, 1);
	if (co != NULL && co != L && gl_is_task(co)) {
		lua_Debug ar;
		int ended = lua_status(co) == LUA_OK && !lua_getstack(co, 0, &ar) && lua_gettop(co) == 0;
		lua_pushstring(L, ended ? "dead" : "normal");
		return 1;
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

static int co_close(lua_State *L) {
	lua_State *co = lua_tothread(L, 1);
	if (co != NULL && gl_is_task(co))
		return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

// around puts f around the function name of the table on top.
static void around(lua_State *L, const char *name, lua_CFunction f) {
	lua_getfield(L, -1, name);
	lua_pushcclosure(L, f, 1);
	lua_setfield(L, -2, name);
}

// ---- finalizers

// guarded_gc runs a __gc handler (upvalue 1) with hooks on, so that a handler which
// never ends can be stopped like other code.
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

// guard wraps the __gc of the metatable at idx when it is a Lua function.
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

// ---- commands of the host

// command calls the function of Lua's library that starts a command. A loop of commands would run on for as many of
// them as take an interval, each of which can last for ever.
static int command(lua_State *L) {
	gl_state *st = gl_of(L);
	if (gl_stopped(st)) return gl_raise_stop(L, st);
	int n = lua_tocfunction(L, lua_upvalueindex(1))(L);
	return gl_stopped(st) ? gl_raise_stop(L, st) : n;
}

void gl_library(lua_State *L) {
	static const luaL_Reg debug[] = {
		{"sethook", gl_sethook},
		{"gethook", gl_gethook},
		{"setmetatable", debug_setmetatable},
		{NULL, NULL},
	};
	static const luaL_Reg coroutine[] = {
		{"resume", co_resume},
		{"wrap", co_wrap},
		{"running", co_running},
		{"yield", co_yield},
		{"isyieldable", co_isyieldable},
		{NULL, NULL},
	};
	lua_getglobal(L, "debug");
	luaL_setfuncs(L, debug, 0);
	lua_getglobal(L, "coroutine");
	luaL_setfuncs(L, coroutine, 0);
	around(L, "status", co_status);
	around(L, "close", co_close);
	lua_getglobal(L, "os");
	around(L, "execute", command);
	lua_getglobal(L, "io");
	around(L, "popen", command);
	lua_pop(L, 4);
	lua_pushcfunction(L, setmetatable);
	lua_setglobal(L, "setmetatable");
}
