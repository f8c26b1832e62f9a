package luaapi

import "slices"

// Classes returns the whole API, in the order of the manual.
func Classes() []Class {
	return slices.Concat(globals(), []Class{testClass(), coClass(), jsonClass(), tClass(), labClass(), vmClass(),
		resultClass(), processClass(), streamClass(), fileClass(), workerClass(), callClass(), batchClass(),
		consoleClass(), clockClass(), screenClass(), keyboardClass(), snapshotClass(),
		labSnapshotClass()}, diskClasses(), networkClasses(), records())
}

// Value is a kind of value that has several forms.
type Value struct{ Name, Lua, Text string }

// Values returns the kinds of values that arguments and options can have beside Lua's types.
func Values() []Value {
	return []Value{
		{"duration", "number|string",
			"A number of seconds (`0.5`), or a decimal number with `ms`, `s`, `m` or `h` (`\"500ms\"`)."},
		{"size", "integer|string",
			"An integer number of bytes, or a number with `K`, `M`, `G` or `T` (`\"512M\"`, powers of 1024)."},
		{"mode", "integer", "Permission bits. Lua has no octal literals: `0x1ed` is 0755, `0x180` is 0600."},
		{"path", "string", "A path that is not empty. A relative path of the host starts at the project."},
		{"signal", "integer|string",
			"A number from 1 to 64, or a name: hup, int, quit, kill, usr1, usr2, pipe, alrm, term, chld, cont, " +
				"stop, winch."},
		{"pattern", "string|table", "A plain text, or `{pattern = \"...\"}` with a Lua pattern."},
	}
}
