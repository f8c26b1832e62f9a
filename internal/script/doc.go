// Package script runs one Lua file: a test file with its tests, or the file of a
// fixture that is built.
//
// It decides what a test's result is and says why. It does not find files or
// choose tests (package run), has no methods of the Lua API beside those of `t`
// (package api below it), has no logic of VMs (package lab) and renders
// no reports: results leave it as events.
//
// Start with Run in run.go, then session.go and execution.go.
//
// # One file
//
// A session is one Lua state with all that its code has made. Run opens one,
// runs the file's chunk, then its tests one by one. The chunk and each test body
// are an execution: a call with a time limit, a trace of its blocking operations,
// and the failures that its assertions have recorded. A watcher beside it stops it
// at its limit, with the file, or when a guest panics. The operation in flight is
// then cancelled by its context, and no pcall keeps the body going.
//
// # Calls
//
// A method of the API reads and checks all its arguments first, then does one
// operation with the state's baton given away (session.Op), so that other threads
// of the state can go on. Everything else runs with the baton held.
package script
