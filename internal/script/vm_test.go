package script

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"provium/internal/admission"
	"provium/internal/lab"
	"provium/internal/script/value"
)

// check runs each source as a test body; it must fail with a text that has the wanted one,
// or pass when that is empty.
func check(t *testing.T, prefix string, cases map[string]string) {
	t.Helper()
	var source strings.Builder
	names := map[string]string{}
	for code := range cases {
		names[code] = "case " + code
		source.WriteString("test(" + value.Quote("case "+code) + ", function(t) " + prefix + " " + code + "\nend)\n")
	}
	o := run(t, source.String())
	if o.ChunkError != "" {
		t.Fatal(o.ChunkError)
	}
	for code, want := range cases {
		if want == "" {
			o.passed(t, names[code])
		} else {
			o.failed(t, names[code], want)
		}
	}
}

func TestVMArguments(t *testing.T) {
	check(t, `local vm = provium:vm("n1", "host")`, map[string]string{
		`vm:run()`:                      "vm:run: expects at least a command string",
		`vm:run(7)`:                     "vm:run: first argument must be a string, got number",
		`vm:run("")`:                    "vm:run: the command must not be empty",
		`vm:run("a\0b")`:                `vm:run: the command holds a NUL byte: "a\x00b"`,
		`vm:run("a", "b")`:              "vm:run: second argument must be a table, got string",
		`vm:run("a", {"x", cwd = "/"})`: "vm:run: the options have array entries beside keys",

		`vm:run("a", {timout =
			1})`: "vm:run: unknown option `timout` (valid: args, env, env_clear, cwd, stdin, " +
			"timeout, timeout_ms, user, setsid, kill_session)",

		`vm:run("a", {timeout = -1})`:                "must be a finite, non-negative number",
		`vm:run("a", {timeout = "10"})`:              "vm:run: opts.timeout: duration: cannot parse `10`",
		`vm:run("a", {timeout = 1, timeout_ms = 1})`: "opts.timeout and opts.timeout_ms are the same limit",
		`vm:run("a", {timeout_ms = -1})`:             "must be a finite, non-negative number",
		`vm:run("a", {timeout_ms = 1.5})`:            "opts.timeout_ms must be an integer, got 1.5",
		`vm:run("a", {args = "x"})`:                  "opts.args must be an array of strings, got string",
		`vm:run("a", {args = {1, {}}})`:              "opts.args: entry 2 must be a string or a number, got table",
		`vm:run("a", {"x", false})`:                  "entry 2 must be a string or a number, got boolean",
		`vm:run("a", {[1] = "x", [3] = "y"})`:        "must be an array without holes: entry 2 is missing",
		`vm:run("a", {env = {A = {}}})`:              "opts.env entry `A` must be a string or a number, got table",
		`vm:run("a", {env = {["A=B"] = "x"}})`:       "which is no name of a variable",
		`vm:run("a", {env = {"x"}})`:                 "has the key 1, which is no name of a variable",
		`vm:run("a", {env_clear = 1})`:               "opts.env_clear must be true or false, got number",
		`vm:run("a", {cwd = ""})`:                    "opts.cwd is no path",
		`vm:run("a", {stdin = 7})`:                   "opts.stdin must be a string, got number",
		`vm:run("a", {user = -1})`:                   "is no user number",
		`vm:run("a", {user = {}})`:                   "opts.user must be a user name or number, got table",
		`vm:run("a")`:                                "cannot run: vm `n1` is created (not booted)",
		`vm.run("a")`:                                "call it with ':'",
		`vm:rum("a")`:                                "unknown method `rum` on vm (did you mean `run`?)",
		`vm:read_file()`:                             "vm:read_file: argument 1 (path) must be a string, got nil",
		`vm:read_file("")`:                           "argument 1 (path) must not be empty",
		`vm:write_file("/x")`:                        "vm:write_file: argument 2 (data) must be a string, got nil",
		`vm:mkdir("/x", {parent = true})`: "vm:mkdir: unknown option `parent` " +
			"(valid: parents, perm, timeout)",
		`vm:mkdir("/x", {perm = 4096})`:           "opts.perm must be an integer between 0 and 4095",
		`vm:mkdir("/x", 1)`:                       "vm:mkdir: argument 2 (opts) must be a table, got number",
		`vm:stat("/x", {follow = "no"})`:          "opts.follow must be true or false, got string",
		`vm:rename("/x")`:                         "vm:rename: argument 2 (to) must be a string, got nil",
		`vm:push_file("x", "/x", {auto_dep = 1})`: "opts.auto_dep must be true or false",
		`vm:power_button("5 s")`:                  "vm:power_button: argument 1 (timeout): duration: cannot parse",
		`vm:batch()`:                              "vm:batch: argument 1 (fn) must be a function, got nil",
		`vm:batch(function(b) b:run() end)`:       "batch:run: expects at least a command string",
		`vm:batch(function(b) b:syscal(1) end)`:   "unknown method `syscal` on batch",
		`vm:batch(function(b) error("no") end)`:   "no",
		`local b vm:boot() pcall(vm.batch, vm, function(x) b = x end) b:stat("/")`: "this batch was sent already",
		`vm:reset()`:                        "cannot reset: vm `n1` is created (not booted)",
		`vm:boot(7)`:                        "vm:boot: argument 1 (opts) must be a table, got number",
		`vm:console():expect(1)`:            "console:expect: argument 1 (pattern) must be a string or {pattern=}, got",
		`vm:clock():set(0/0)`:               "clock:set: value must be a finite number (got NaN/inf)",
		`vm:clock():set("x")`:               "clock:set: argument 1 (seconds) must be a number, got string",
		`vm:clock():set(1e300)`:             "out of range",
		`vm:clock():set(math.maxinteger)`:   "out of range",
		`vm:clock():set_ns(0.5)`:            "clock:set_ns: value must be a finite integer of nanoseconds, got 0.5",
		`vm:clock():set_ns()`:               "must be an integer, got nil",
		`vm:clock():sleep(-1)`:              "clock:sleep: duration: must be a finite, non-negative number",
		`vm:clock():sleep("x")`:             "clock:sleep: duration: cannot parse `x`",
		`vm:clock():advance({})`:            "clock:advance: duration: expected number|string, got table",
		`vm:clock():advance(1/0)`:           "finite",
		`vm:clock():get()`:                  "not booted",
		`t:assert_eq(vm, provium:vm("n1"))`: "",
		`t:assert_eq(vm.run, vm.run)`:       "",
		`t:assert_eq(tostring(vm), "vm(n1 state=created cid=-)")`:                                     "",
		`t:assert_eq(({[vm] = 5})[provium.n1], 5)`:                                                    "",
		`t:assert_eq(vm:boot(), vm) t:assert_eq(vm:state(), "booted")`:                                "",
		`t:assert_eq(vm:clock(), vm:clock()) t:assert_eq(vm:console(), vm:console())`:                 "",
		`t:assert_eq(vm:console():read_log() or "", "")`:                                              "",
		`vm:boot() vm:pause() t:assert_eq(vm:state(), "paused") vm:resume() vm:shutdown() vm:close()`: "",

		`vm:boot() vm:pause() vm:run("true")`: "vm `n1` is paused (not booted); call vm:resume() first",
	})
}

func TestBootOptions(t *testing.T) {
	check(t, "", map[string]string{
		`provium:vm("v", "host", {memroy =
			1})`: "lab:vm: unknown option `memroy` (valid: memory, cpus, kernel_cmdline,",

		`provium:vm("v", "host", {memory = 0})`: "lab:vm: opts.memory: size must be positive, got 0",

		`provium:vm("v", "host", {memory = "2X"})`: "opts.memory: cannot parse size `2X`",

		`provium:vm("v", "host", {memory = 1.5})`: "opts.memory: size must be a whole number of bytes, got 1.5",

		`provium:vm("v", "host", {cpus = 0})`: "opts.cpus must be an integer of at least 1, got 0",

		`provium:vm("v", "host", {cpus = "2"})`: "opts.cpus must be an integer, got string",

		`provium:vm("v", "host", {initial_time = 0/0})`: "initial_time: NaN/inf not allowed",

		`provium:vm("v", "host", {initial_time =
			"x"})`: "initial_time: expected number (seconds since epoch), got string",

		`provium:vm("v", "host", {agent_timeout = 0})`: "agent_timeout: expected a positive number of seconds, got 0",

		`provium:vm("v", "host", {agent_timeout = "x"})`: "agent_timeout: expected a positive number of seconds, got x",

		`provium:vm("v", "host", {rng_seed = 1.5})`: "opts.rng_seed must be an integer, got 1.5",

		`provium:vm("v", "host", {cold = 1})`: "opts.cold must be true or false, got number",

		`provium:vm("v", "host", {kernel_cmdline = 7})`: "opts.kernel_cmdline must be a string, got number",

		`provium:vm("v", "host", {files = {{path = "/a"}}})`: "opts.files[1]: content must be a string, got nil",

		`provium:vm("v", "host", {files = {{path = "a", content =
			""}}})`: "opts.files[1]: path must be the absolute path of a file",
		`provium:vm("v", "host", {files = {{path = "/etc/../x", content = ""}}})`: "opts.files[1]: path " +
			"must not have `.` or `..` among its parts, got \"/etc/../x\"",

		`provium:vm("v", "host"):boot{wait = "login:"}`: "opts.wait must be \"agent\", " +
			"\"none\", \"init\", \"systemd\", \"console:TEXT\" or \"command:CMD\", got login:",

		`provium:vm("v", "host"):boot{wait = "console:"}`: "opts.wait must be \"agent\", " +
			"\"none\", \"init\", \"systemd\", \"console:TEXT\" or \"command:CMD\", got console:",

		`provium:vm("v", "host"):boot{wait = 5}`: `opts.wait must be "agent", "none", ` +
			`"init", "systemd", "console:TEXT" or "command:CMD", got 5`,

		`provium:vm("v", "host", {files = {{path = "/a", content = "", mode =
			-1}}})`: "mode must be an integer between 0 and 4095",

		`provium:vm("v", "host", {files = {{path = "/a", content = "", perm =
			1}}})`: "opts.files[1]: unknown option `perm` (valid: path, content, mode)",

		`provium:vm("v", "host", {files = "x"})`: "opts.files must be an array",

		`provium:vm("v", "host", "512M")`: "argument 3 (opts) must be a table, got string",

		`provium:vm("v", "hots")`: "unknown profile `hots` in provium.toml",

		`provium:vm("v", nil, {})`: "argument 2 (profile) must be a string, got nil",

		`provium:vm("v", "host", {memory = "1G", cpus = 4.0, rng_seed = -1, initial_time = 1.5, cold = true,
			agent_timeout = "5s", kernel_cmdline = "quiet", kernel_cmdline_append = "x=1",
			files = {{path = "/a", content = "\0", mode = 493}}})`: "",
	})
}

func TestLabs(t *testing.T) {
	check(t, "", map[string]string{
		`provium:vm("x")`: "no vm named `x`",
		`t:assert_eq(provium.x, nil) t:assert_eq(provium[1], nil)`: "",

		`provium:vm("pack", "host")`: "reserved: pack, unpack, vm_fixture, lab_fixture",

		`provium:vm("a", "host") provium:vm("a", "host")`:                                           "already used",
		`t:assert_eq(tostring(provium), "lab(provium)")`:                                            "",
		`provium:vm("v", "host") t:assert_eq(provium:boot(), provium)`:                              "",
		`t:assert_eq(provium.pack("<i2", 1), "\1\0") t:assert_eq(provium:unpack("<i2", "\1\0"), 1)`: "",

		`provium:lab("z").pack("y")`: "invalid format option 'y'",

		`provium:lab("z").timeout = 1`: "lab `z`: cannot assign `timeout`",

		`provium:lab("")`: "argument 1 (name) must not be empty",

		`provium:lab(7)`: "argument 1 (name) must be a string, got number",

		`provium:include(7)`: "lab:include: expected a userdata (vm, bridge or lab), got number",

		`provium:include({provium:lab("a"), 1})`: "lab:include: expected a userdata (vm, bridge or lab), got number",

		`provium:remove(7)`: "lab:remove: expected a name, a vm, a bridge or a lab, got number",

		`provium:remove("no")`: "no member `no`",

		`provium:claim()`: "lab:claim: nothing is claimed",

		`provium:claim({disk = 1})`: "unknown option `disk` (valid: memory, memory_bytes, cpus)",

		`provium:claim({memory = -1})`: "memory: size must be positive, got -1",

		`provium:claim({memory_bytes = "1G"})`: "memory_bytes must be an integer, got string",

		`provium:claim({cpus = 1.5})`: "opts.cpus must be an integer, got 1.5",

		`provium.vm("x")`: "call it with ':'",
		`local l = provium:lab("a") l:vm("v", "host") t:assert_eq(l.v, l:vm("v")) t:assert_eq(provium.v, nil)`: "",

		`provium:vm("a", "host"):boot() provium:vm("b", "host") provium:pause()`: "`b`: cannot pause",
	})
	o := run(t, `
local file_vm = provium:vm("f", "host"):boot()
local p = provium
local kept, sub
provium:claim({memory = "1G"})
test("scope", function(t)
  kept = p:vm("mine", "host"):boot()
  sub = provium:lab("sub")
  local held = p:vm("held", "host")
  provium:lab("inner"):include(held)
  t:assert_eq(#provium:vm_names(), 2)
  t:assert_eq(provium.f, file_vm)
  local ok, err = pcall(provium.vm, provium, "f", "host")
  t:assert_contains(err, "name already declared at parent scope (lab `+"`provium`"+`)")
end)
test("after", function(t)
  t:assert_eq(kept:state(), "shutdown")
  t:assert_eq(provium.mine, nil)
  t:assert_eq(file_vm:state(), "booted")
end)
test("second claim", function(t) provium:claim({cpus = 1}) end)
test("boot of a closed one", function(t) kept:boot() end)
test("declaring in a closed one", function(t)
  t:assert_eq(sub:name(), "sub")
  kept:shutdown()
  kept:close()
  sub:vm("x", "host")
end)
`)
	o.passed(t, "scope")
	o.passed(t, "after")
	o.failed(t, "second claim", "claim already taken", "one-shot")
	o.failed(t, "boot of a closed one", "vm:boot: vm `mine` belongs to test `scope`, which has ended")
	o.failed(t, "declaring in a closed one", "lab:vm: lab `sub` belongs to test `scope`, which has ended")
}

// gatePool is a pool that lets a VM in when told to.
type gatePool struct {
	asked   chan struct{}
	granted chan struct{}
}

func (p *gatePool) Acquire(ctx context.Context, _ string, _ []admission.Share) ([]func(), error) {
	return []func(){func() {}}, p.Claim(ctx, 0, 0)
}

func (p *gatePool) Claim(ctx context.Context, _ int64, _ int) error {
	p.asked <- struct{}{}
	select {
	case <-p.granted:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func TestOperationsInReports(t *testing.T) {
	pool := &gatePool{make(chan struct{}, 9), make(chan struct{}, 9)}
	for range 2 { // the boot and the claim
		pool.granted <- struct{}{}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	project := write(t, map[string]string{testPath: `
local vm = provium:vm("n1", "host"):boot()
provium:claim({memory = "1G"})
test("fails", function(t)
  pcall(vm.run, vm, "make -C " .. ("x"):rep(100), {args = {}})
  vm:pause()
  vm:resume()
  t:fail("here")
end)`})
	o := runFile(t, ctx, project, func(c *Config) { c.Host.Pool = pool })
	cancel(nil)
	e := o.failed(t, "fails", "last operations:", "[n1] vm:pause()  tests/x.test.lua:6", "[n1] vm:resume()",
		"[n1] vm:run(\"make -C "+strings.Repeat("x", 32)+"... (108 bytes)\", {...})  tests/x.test.lua:5  failed: run")
	if strings.Contains(e.Reason, "claim") {
		t.Error(e.Reason)
	}
}

func TestWaitingForThePoolIsNoTimeout(t *testing.T) {
	pool := &gatePool{make(chan struct{}, 9), make(chan struct{}, 9)}
	clock := newWaitClock(time.Now)
	go func() {
		<-pool.asked
		pool.granted <- struct{}{}
	}()
	host := &lab.Host{Pool: pool}
	defer host.Observe(lab.Observer{PoolWait: clock.pause})()
	if err := lab.New(host).Claim(context.Background(), 1, 1); err != nil {
		t.Fatal(err)
	}
	total, waiting, changed := clock.read()
	if total <= 0 || waiting {
		t.Errorf("total %v waiting %v", total, waiting)
	}
	resume := clock.pause()
	<-changed
	if _, waiting, _ := clock.read(); !waiting {
		t.Error("not waiting")
	}
	resume()
	resume()
	if after, waiting, _ := clock.read(); waiting || after < total {
		t.Error("still waiting")
	}
}

func TestCancelledOperation(t *testing.T) {
	pool := &gatePool{make(chan struct{}, 9), make(chan struct{}, 9)}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		<-pool.asked
		cancel(errors.New("interrupted"))
	}()
	project := write(t, map[string]string{testPath: `
test("claims", function(t)
  provium:claim({cpus = 2})
end)`})
	o := runFile(t, ctx, project, func(c *Config) { c.Host.Pool = pool })
	o.failed(t, "claims", `interrupted in lab:claim({...}) at tests/x.test.lua:3`)
}

// brokenPool fails as only a mistake in the program can.
type brokenPool struct{}

func (brokenPool) Acquire(context.Context, string, []admission.Share) ([]func(), error) {
	panic("broken")
}
func (brokenPool) Claim(context.Context, int64, int) error { panic("broken") }

func TestPanicPoisons(t *testing.T) {
	project := write(t, map[string]string{testPath: `
test("before", function(t) end)
test("breaks", function(t) pcall(provium.claim, provium, {cpus = 1}) end)
test("rest", function(t) end)
test("skipped anyway", {skip = true}, function(t) end)`})
	o := runFile(t, context.Background(), project, func(c *Config) { c.Host.Pool = brokenPool{} })
	o.passed(t, "before")
	o.failed(t, "breaks", "internal error: ", "broken", "goroutine")
	o.failed(t, "rest", "failed-due-to-poisoned-state")
	if !o.Poisoned {
		t.Error("not poisoned")
	}
}
