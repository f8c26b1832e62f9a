package script

import "testing"

// In a test, operations on provium also act on what file scope has declared.
func TestLabOfATestShowsTheFiles(t *testing.T) {
	o := runOn(t, `
local outer = provium:vm("outer", "host")
provium:bridge("net"):attach(outer)
test("states", function(t)
  local inner = provium:vm("inner", "host")
  provium:boot()
  t:assert_eq(outer:state(), "booted")
  t:assert_eq(inner:state(), "booted")
  provium:pause()
  t:assert_eq(outer:state(), "paused")
  provium:resume()
  t:assert_eq(outer:state(), "booted")
  provium:shutdown()
  t:assert_eq(inner:state(), "shutdown")
  t:assert_eq(outer:state(), "booted")
end)
test("snapshot", function(t)
  local s = provium:snapshot()
  outer:shutdown()
  provium:restore(s)
  t:assert_eq(outer:state(), "booted")
  t:assert_eq(provium:vm("outer"), outer)
  t:assert_eq(#provium:members(), 0)
  local fork = provium:fork()
  t:assert_eq(fork.outer:state(), "booted")
  t:assert_eq(fork.net:name(), "net")
end)
test("nothing to shut down", function(t) provium:shutdown() end)
`, nil, nil)
	o.passed(t, "states")
	o.passed(t, "snapshot")
	o.failed(t, "nothing to shut down", "lab `provium` shutdown: the test has no VM (those of file scope")
	empty := map[string]string{}
	for _, op := range []string{"boot", "pause", "resume", "snapshot", "fork"} {
		empty["provium:lab('x'):"+op+"()"] = "lab `x` " + op + ": there is no VM in it"
	}
	check(t, "", empty)
}

func TestFurtherArguments(t *testing.T) {
	check(t, `local vm = provium:vm("n1", "host"):boot()`, map[string]string{
		`vm:run("echo", {"hi"}, {timeout = "5s"})`: "vm:run: unexpected argument 3, a table: " +
			"the form is run(command), run(command, {arguments}) or run(command, {args = {arguments}, timeout = …})",
		`vm:run_async("echo", {"hi"}, {})`:         "vm:run_async: unexpected argument 3",
		`vm:run("true", nil, nil)`:                 "",
		`vm:shutdown() vm:boot({}, {cpus = 2})`:    "a table: the options, argument 1, are the last",
		`vm:shutdown() vm:boot(nil, {cpus = 2})`:   "vm:boot: unexpected argument 2, a table",
		`provium:boot({cpus = 2})`:                 "lab:boot: unexpected argument 1, a table: the form is lab:boot()",
		`provium:vm("n2", "host", {}, {cpus = 2})`: "lab:vm: unexpected argument 4",
		`vm:mkdir("/x", {}, {parents = true})`:     "vm:mkdir: unexpected argument 3",
		`vm:run("true", {args = {a = 1}})`:         "vm:run: opts.args has the key a, it must be an array",
		`vm:run("true", {args = {"a", nil, "c"}})`: "entry 2 is missing",
		`vm:run("true").code = 1`:                  "cannot assign",
		`print(vm:run("true").exitcode)`:           "unknown field or method `exitcode` on RunResult (did you",
		`provium:vm("n2", "host", {cpus = 999})`:   "lab:vm: opts.cpus: 999 is not between 1 and 255",
		`vm:boot()`:                                "cannot boot: vm `n1` is already booted; call vm:shutdown() first",
	})
}
