// See hook.h.
#include "hook.h"

#include "trace.h"

#include <stdlib.h>
#include <string.h>

enum {
	interval = 1000,        // instructions between two checks of the stop flag
	closing_budget = 20000, // intervals for all finalizers of a state which is closed
	// Lua switches hooks off inside a hook, and an error raised from one leaves them
	// off in a dead coroutine (whose __close handlers could then loop for ever) and in
	// message handlers. The switch is a private byte of lua_State. It is at the same
	// place in each 5.4 release; probe checks that before it is used.
	allowhook_offset = sizeof(void *) + 3,
};

// key_hooks is the table of user hooks in the registry, under the name that the
// standard library uses: thread -> {function, mask, count, left, running}.
static const char key_hooks[] = "_HOOKKEY";

enum { H_FUNC = 1, H_MASK, H_COUNT, H_LEFT, H_RUNNING };

void gl_set_allowhook(lua_State *L, gl_state *st, int on) {
	if (st->allowhook) ((unsigned char *)L)[allowhook_offset] = (unsigned char)on;
}

static void hook(lua_State *L, lua_Debug *ar);

int gl_raise_stop(lua_State *L, gl_state *st) {
	gl_task *t = st->task;
	// After the raise, a message handler, a __close or the next instruction
	// behind a pcall comes here again at once.
	lua_sethook(L, hook, LUA_MASKCOUNT, 1);
	if (t->L != NULL && t->L != L) lua_sethook(t->L, hook, LUA_MASKCOUNT, 1);
	gl_set_allowhook(L, st, 1);
	if (t->stopped.text == NULL) {
		// This runs no Lua code, so that it is not stopped itself.
		gl_trace_capture(L, &t->stopped, 0);
	}
	lua_pushliteral(L, "interrupted");
	return lua_error(L);
}

// push_thread pushes the thread of on L.
static void push_thread(lua_State *L, lua_State *of) {
	if (of != L && !lua_checkstack(of, 1)) luaL_error(L, "stack overflow");
	lua_pushthread(of);
	if (of != L) lua_xmove(of, L, 1);
}

// hook_entry pushes the entry of the user hook of the thread of and returns 1, or
// returns 0 and pushes nothing.
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

// arm sets our hook in L with the events of the user hook.
static void arm(lua_State *L, int mask, lua_Integer count) {
	int step = interval;
	if ((mask & LUA_MASKCOUNT) && count < interval) step = (int)count;
	lua_sethook(L, hook, mask | LUA_MASKCOUNT, step);
}

// user_hook calls the function which debug.sethook set.
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

// hook is the function of all hooks.
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

// thread_arg returns the optional thread at argument 1, and in arg the arguments it
// takes up.
static lua_State *thread_arg(lua_State *L, int *arg) {
	if (lua_isthread(L, 1)) {
		*arg = 1;
		return lua_tothread(L, 1);
	}
	*arg = 0;
	return L;
}

int gl_sethook(lua_State *L) {
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

int gl_gethook(lua_State *L) {
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
	if (mask == 0) { // removed by a hook which was running
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

// ---- start

// probe sees hooks switched off inside itself.
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
