package luaapi

// metaOptions are the keys of a test's metadata that mean something.
func metaOptions() detail {
	return open(
		opt("skip", "boolean|integer|string", "", "skips the test; a text is the reason"),
		opt("slow", "boolean|integer", "", "the test runs with --include-slow only"),
		opt("tags", "string|string[]", "", "for --tag and --no-tag"),
		opt("timeout", "duration", "provium.timeout", "limit of the test; 0 for no limit"),
		opt("spec", "string|string[]", "", "what the test covers"),
		opt("allow_oops", "boolean", "false", "no report of the guest's kernel fails the test"),
		opt("op_timeout", "duration", "that of the profile",
			"how long a guest may be silent during an operation; 0 for no limit"),
		opt("allow_warnings", "boolean", "false", "WARNING reports of the kernel do not fail the test"),
		opt("expect_panic", "boolean", "false", "a panic does not fail the test and does not end the VM"))
}

func globals() []Class {
	return []Class{{
		Name: "globals", Kind: Globals, Title: "Global functions", Page: "lua-api.md#tests",
		Text: "What a test file finds beside Lua's standard library.",
		Fields: []Option{
			field("provium", "lab", "The lab of the running test, or of the file outside of tests."),
			field("_PROVIUM_SOURCE_PATH", "string", "The absolute path of the running chunk."),
		},
		Methods: []Function{
			fn("test(name: string, meta?: options, fn: fun(t: t))",
				"Registers a test at file scope. Its name is unique in the file.", metaOptions(), example(`
test("a command runs", {timeout = "1m", tags = "smoke"}, function(t)
  t:assert_eq(vm:run("echo hi").stdout, "hi\n")
end)`)),
			fn("before_each(fn: fun(t: t, case: any))",
				"Registers a function that runs before each test that is not skipped, with the arguments of the test."),
			fn("after_each(fn: fun(t: t, case: any))",
				"Registers a function that runs after each test that is not skipped, the last one first."),
			fn("todo(reason?: string)", "Skips all tests of the file."),
			fn("wait_until(predicate: fun(), opts?: options) -> any",
				"Calls the predicate until it returns a truthy value, and returns that. It raises at the timeout.",
				options(
					opt("timeout", "duration", "10", "how long to wait"),
					opt("interval", "duration", "0.1", "time between two calls"),
					opt("desc", "string", `"condition"`, "what is waited for, in the error")),
				example(`wait_until(function() return vm:run("pidof sshd"):ok() end, {timeout = "30s"})`)),
			fn("parallel(functions: function[]) -> any",
				"Runs functions at the same time and returns the first result of each, in order. "+
					"The first error is raised after the other tasks were stopped.",
				example(`local a, b = parallel{function() return n1:run("id") end, function() n2:run("id") end}`)),
		},
	}}
}

func testClass() Class {
	return Class{
		Name: "test", Kind: Library, Title: "Parametrised tests", Page: "lua-api.md#tests-for-many-cases",
		Text: "`test` is called to register a test, and has a function for many cases.",
		Methods: []Function{
			fn("each(cases: table, name: string, meta?: options, fn: fun(t: t, case: any))",
				"Registers one test for each case. `{key}` in the name stands for that field of the case, `{}` for "+
					"the "+
					"case itself.", metaOptions(), example(`
test.each({{fs = "ext4"}, {fs = "xfs"}}, "{fs} is mounted", function(t, case)
  vm:run("mkfs." .. case.fs .. " /dev/vdb"):assert_ok()
end)`)),
		},
	}
}

func coClass() Class {
	return Class{
		Name: "co", Kind: Library, Title: "Background tasks", Page: "lua-api.md#tasks",
		Text: "Lua's `coroutine` library, whose `wrap` starts tasks in the background.",
		Methods: []Function{
			fn("wrap(fn: function) -> function",
				"Returns a function that starts fn as background task and returns at its first blocking operation. "+
					"The task is awaited at the end of the body, and its error fails the test."),
			fn("create(fn: function) -> thread", "As coroutine.create."),
			fn("resume(co: thread, ...: any) -> boolean, any", "As coroutine.resume."),
			fn("yield(...: any) -> any", "As coroutine.yield."),
			fn("status(co: thread) -> string", "As coroutine.status."),
			fn("running() -> thread, boolean", "As coroutine.running."),
			fn("isyieldable(co?: thread) -> boolean", "As coroutine.isyieldable."),
			fn("close(co: thread) -> boolean, any", "As coroutine.close."),
		},
	}
}

func jsonClass() Class {
	return Class{
		Name: "json", Kind: Library, Title: "JSON", Page: "lua-api.md#json",
		Methods: []Function{
			fn("encode(value: any) -> string",
				"Returns a value as JSON. A table with only positive integer keys is an array, every other one an "+
					"object."),
			fn("decode(text: string) -> any",
				"Parses JSON. `null` is nil, and 64-bit integers are exact. Errors name the place."),
		},
	}
}

func tClass() Class {
	return Class{
		Name: "t", Kind: Handle, Title: "The running test", Page: "lua-api.md#t",
		Text: "What the function of a test is called with. A failed assertion fails the test also inside `pcall`.",
		Fields: []Option{
			field("name", "string", "The name of the test."),
			field("meta", "table", "The metadata, as they were registered."),
		},
		Methods: []Function{
			fn("assert(v: any, msg?: any)", "Fails if v is false or nil."),
			fn("assert_eq(a: any, b: any, msg?: any)", "Fails unless a == b. Tables are compared by identity.",
				example(`t:assert_eq(vm:run("uname -s").stdout, "Linux\n")`)),
			fn("assert_neq(a: any, b: any, msg?: any)", "Fails if a == b."),
			fn("assert_same(a: any, b: any, msg?: any)",
				"Fails unless both values hold the same. Tables are compared by what they hold, at any depth.",
				example(`t:assert_same(json.decode(out), {state = "up", peers = {"n1", "n2"}})`)),
			fn("assert_gt(a: any, b: any, msg?: any)", "Fails unless a > b."),
			fn("assert_ge(a: any, b: any, msg?: any)", "Fails unless a >= b."),
			fn("assert_lt(a: any, b: any, msg?: any)", "Fails unless a < b."),
			fn("assert_le(a: any, b: any, msg?: any)", "Fails unless a <= b."),
			fn("assert_contains(s: string, needle: string, msg?: any)",
				"Fails unless s contains needle, a plain text."),
			fn("assert_matches(s: string, pattern: string, msg?: any) -> string",
				"Fails unless s matches the Lua pattern. Returns what string.match returns."),
			fn("assert_raises(fn: function, msg?: any) -> any",
				"Calls fn and fails if it returns without an error. Returns the error value."),
			fn("assert_error_matches(fn: function, pattern: string, msg?: any) -> any",
				"Calls fn and fails unless it raises an error whose text matches the Lua pattern. Returns the error "+
					"value."),
			fn("fail(msg?: any)", "Fails the test."),
			fn("skip(reason?: any)", "Ends the test as skipped."),
			fn("log(v: any)", "Adds the text of v to the log of the test."),
			fn("defer(fn: function)", "Has fn called after the test, the last one first."),
			fn("step(name: string, fn: function) -> any",
				"Calls fn and returns what it returns. A failure in it names the step."),
			fn("attach(name: string, what: string|table)",
				"Adds a file to the report: that at a path of the host, which must be written out in the file of the "+
					"call, or bytes. `{path = \"...\"}` and `{bytes = \"...\"}` say which.",
				example(`t:attach("journal", vm:run("journalctl").stdout)`)),
			fn("mark(name: string)",
				"Names the present moment of guests that are recorded (`--record`), for `provium debug DIR --at "+
					"NAME`. It does nothing with others.",
				example(`t:mark("before the write")`)),
			fn("expect_kernel(text: pattern)",
				"Says that a kernel will report a failure whose title, or a line of which, matches. Such reports do "+
					"not fail the test, which fails if none has come until its end.",
				example(`t:expect_kernel("WARNING in demo_store")`)),
			fn("pause(why?: any)", "Stops for a person to look at the guests. It needs a terminal."),
		},
	}
}
