// Package lua is a small, general binding to PUC Lua 5.4 (the system's
// liblua5.4, linked statically): values, calls, errors, threads and a way to
// stop them. It knows nothing about what the Lua code is for, and it does not
// sandbox: the whole standard library is there and acts on the host.
//
// # The baton
//
// One goroutine at a time may use a State and the values that belong to it: the
// one that holds the State's baton. New hands it to its caller. A GoFunc has it
// while it runs, except inside Call.Block, which lets the other threads of the
// State go on. A goroutine that is no thread gives it away in State.Block.
// Unless said otherwise every method needs the baton, and panics when nobody
// holds it.
//
// # Threads
//
// Lua code runs in a Thread: a Lua thread of its own (not a Lua coroutine) with
// a goroutine of its own. State.Call runs one to its end on the caller's
// goroutine, State.Go starts one beside it. Since a blocked thread keeps its C
// stack, blocking works from any depth: inside pcall, sort and gsub callbacks,
// metamethods, coroutines, require. Threads take turns only where they block;
// the baton goes round in the order it was asked for.
//
// A Thread ends early by Interrupt or by the end of its context. It is then
// stopped in the middle of a loop or at the end of what it blocks on, and no
// pcall keeps it going. Only C code that never returns (a pathological
// string.find, io.popen) cannot be stopped.
//
// # Errors
//
// An error that a GoFunc returns becomes a Lua error: a string that begins with
// the line of the Lua code that called. *Raise gives control over value and
// position, an *Error goes on as it was. What leaves Lua is an *Error; if its
// value is one that a GoFunc raised, errors.Is and errors.As find the Go error.
package lua
