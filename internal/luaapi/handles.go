package luaapi

func resultClass() Class {
	return Class{
		Name: "run_result", Kind: Handle, Title: "Results of commands", Page: "lua-api.md#commands",
		Text: "What `vm:run` and `process:wait` return.",
		Fields: []Option{
			field("exit_code", "integer", "-1 when signalled, -2 when timed out."),
			field("status", "string", `"exited", "signalled" or "timed_out".`),
			field("signal", "integer|nil", "The signal that ended it."),
			field("timed_out", "boolean", "Whether the timeout ended it."),
			field("stdout", "string", "Its standard output."),
			field("stderr", "string", "Its standard error."),
			field("truncated", "boolean", "An output above 64 MiB was cut."),
		},
		Methods: []Function{
			fn("ok() -> boolean", "Reports whether the exit code is 0."),
			fn("assert_ok() -> run_result", "Raises with status, stdout and stderr unless the exit code is 0."),
		},
	}
}

func processClass() Class {
	return Class{
		Name: "process", Kind: Handle, Title: "Processes", Page: "lua-api.md#processes", Prefix: "proc",
		Text: "What `run_async` returns. It is ended with the scope that started it.",
		Methods: []Function{
			fn("wait(timeout?: duration) -> run_result",
				"Waits for the end and returns the result. At the timeout the process and its descendants are killed."),
			fn("kill(sig?: signal)", "Sends a signal (term) to the process and its descendants."),
			fn("signal(sig: signal)", "Sends a signal to the process and its descendants."),
			fn("status() -> string", `Returns "running", "exited" or "signalled".`),
			fn("pid() -> integer", "Returns the process id in the guest."),
			fn("handle() -> integer", "Returns the agent's number of it."),
			fn("stdin_write(data: string) -> integer", "Writes to its standard input and returns the number of bytes."),
			fn("close_stdin()", "Ends its standard input."),
			fn("stdout_stream() -> stream", "Returns a stream of its standard output, from the first byte."),
			fn("stderr_stream() -> stream", "Returns a stream of its standard error, from the first byte."),
			fn("close()", "Ends it now."),
		},
	}
}

func streamClass() Class {
	return Class{
		Name: "stream", Kind: Handle, Title: "Streams", Page: "lua-api.md#streams",
		Text: "Bytes as they appear: of processes, tails, consoles and captures.",
		Methods: []Function{
			fn("next(timeout?: duration) -> string|nil",
				"Returns the next bytes; nil at the timeout (10 s) and at the end."),
			fn("read_until(text: pattern, timeout?: duration) -> string",
				"Returns everything up to and including the text, and the captures of a pattern. It raises after 10 "+
					"s."),
			fn("expect(text: pattern, timeout?: duration) -> string|nil",
				"Waits for a text and drops everything up to it. With a pattern it returns the match and its captures.",
				example(`local text, id = s:expect({pattern = "session=(%x+)\n"}, "20s")`)),
			fn("drain(timeout?: duration) -> string[]", "Returns what comes in that time (0.5 s)."),
			fn("packets(timeout?: duration) -> packet[]",
				"Of a capture: returns the frames that come in that time (0.5 s), decoded."),
			fn("eof() -> boolean", "Reports whether it has ended and everything was read."),
			fn("close()", "Ends it."),
			fn("creation_site() -> site|nil", "Returns where it was opened."),
		},
	}
}

func fileClass() Class {
	limit := options(timeout())
	return Class{
		Name: "file", Kind: Handle, Title: "Open files", Page: "lua-api.md#open-files",
		Text: "What `open_file` returns.",
		Methods: []Function{
			fn("read(n: integer, opts?: options) -> string", `Returns up to n bytes, "" at the end.`, limit),
			fn("read_all(opts?: options) -> string", "Returns the rest.", limit),
			fn("write(data: string, opts?: options) -> integer",
				"Writes at most 1 MiB and returns the number of bytes.",
				limit),
			fn("seek(offset: integer, whence?: string) -> integer",
				`Moves the cursor; whence is "set" (default), "cur" or "end".`),
			fn("tell() -> integer", "Returns the cursor."),
			fn("fd() -> integer", "Returns its descriptor, 0 once closed."),
			fn("tail_stream() -> stream", "Returns a stream from the cursor on."),
			fn("close()", "Closes it."),
		},
	}
}

func consoleClass() Class {
	return Class{
		Name: "console", Kind: Handle, Title: "Consoles", Page: "lua-api.md#console",
		Text: "The serial console of a VM.",
		Methods: []Function{
			fn("read_log() -> string", "Returns everything printed since the first boot."),
			fn("lines() -> string[]", "Returns the same as lines, without escape sequences."),
			fn("expect(text: pattern, timeout?: duration) -> string",
				"Waits until the text is printed after the previous match, and returns it. It raises after 30 s.",
				example(`vm:console():expect("login:")`)),
			fn("read() -> stream", "Returns a stream of what is printed."),
			fn("write(data: string, opts?: options)", "Types into the device of the last console=.", options(
				opt("timeout", "duration", "10", "how long the guest may take to accept it"))),
			fn("close()", "Does nothing."),
		},
	}
}

func clockClass() Class {
	return Class{
		Name: "clock", Kind: Handle, Title: "Clocks", Page: "lua-api.md#clock",
		Text: "The guest's CLOCK_REALTIME.",
		Methods: []Function{
			fn("get() -> number", "Returns the time in seconds since 1970."),
			fn("get_ns() -> integer", "Returns the time in nanoseconds since 1970."),
			fn("set(seconds: number)", "Sets the time in seconds since 1970."),
			fn("set_ns(nanoseconds: integer)", "Sets the time in nanoseconds since 1970."),
			fn("advance(duration: duration)",
				"Moves the time; negative goes back.", example(`vm:clock():advance("25h")`)),
			fn("sleep(duration: duration)", "Waits in the guest."),
			fn("warp(duration: duration)", "Has a deterministic guest's time pass as fast as the emulator goes: "+
				"timers fire in their order, and nothing jumps. It raises for other guests.",
				example(`vm:clock():warp("25h")`)),
			fn("sync()", "Sets the host's time."),
		},
	}
}

func screenClass() Class {
	return Class{
		Name: "screen", Kind: Handle, Title: "Screens", Page: "machines.md#screen-and-keyboard",
		Text: "What a VM with the boot option `display` shows.",
		Methods: []Function{
			fn("png() -> string", "Returns a picture of the screen as a PNG file. Equal pictures have equal bytes.",
				example(`t:attach("console.png", vm:screen():png())`)),
		},
	}
}

func keyboardClass() Class {
	return Class{
		Name: "keyboard", Kind: Handle, Title: "Keyboards", Page: "machines.md#screen-and-keyboard",
		Text: "A PS/2 keyboard with the layout of the USA. Its methods return when the guest has taken the keys.",
		Methods: []Function{
			fn("type(text: string)", "Types printable ASCII characters, tabs and line ends.",
				example(`vm:keyboard():type("root\n")`)),
			fn("press(key: string, ...: string)", "Presses keys one after another. Those with a dash between them are "+
				"held together.", example(`vm:keyboard():press("ctrl-alt-f2", "ret")`)),
		},
	}
}
