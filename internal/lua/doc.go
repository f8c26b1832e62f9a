// Package lua is a small, general binding to PUC Lua 5.4 (the system's
// liblua5.4, linked statically): values, calls, errors, threads and a way to
// stop them. It knows nothing about what the Lua code is for, and it does not
// sandbox: the whole standard library is available and acts on the host.
//
// Start reading with State and Call. The C side is described in state.h.
//
// # The baton
//
// One goroutine at a time may use a State and the values that belong to it: the
// one that holds the State's baton. New passes it to its caller. A GoFunc holds
// it while it runs, except inside Call.Block, during which other threads of the
// State can run. A goroutine that is not a thread releases it in State.Block.
// Unless documented otherwise every method needs the baton, and panics when
// nobody holds it.
//
// # Threads
//
// Lua code runs in a Thread: a Lua thread of its own (not a Lua coroutine) with
// a goroutine of its own. State.Call runs one to its end on the caller's
// goroutine, Thread.Start starts one beside it. Blocking works from
// any depth: inside pcall, sort and gsub callbacks, metamethods, coroutines, require.
// A thread that blocks in a function of NewBlockingFunction, or in a method, holds no
// OS thread, unless functions of C that call back are on its stack. Threads take turns only where they block,
// and get the baton in the order they requested it.
//
// A Thread ends early by Interrupt or by the end of its context. It is then
// stopped in the middle of a loop or at the end of the operation it blocks on,
// and no pcall keeps it running. Only C code that never returns (a pathological
// string.find, io.popen) cannot be stopped; Config.Stuck can end what it waits for.
//
// # Errors
//
// An error that a GoFunc returns becomes a Lua error: a string that begins with
// the line of the calling Lua code. *Raise determines value and position, and an
// *Error is passed on unchanged. What leaves Lua is an *Error; if its
// value is one that a GoFunc raised, errors.Is and errors.As find the Go error.
package lua
