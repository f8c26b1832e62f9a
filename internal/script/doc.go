// Package script is the Lua API: it runs one test file, with the test framework
// and the handles of labs, VMs, consoles and clocks in it.
//
// It decides what a test's result is and says why. It does not find files or
// choose tests (package run), has no VM logic of its own (package lab) and
// renders no reports: results leave it as events.
//
// # One file
//
// Run makes a Lua state, runs the file's chunk, then its tests one by one. The
// chunk and each test body are an execution: a call with a time limit, a trace
// of its blocking operations, and what assertions noted. A watcher beside it
// stops it at its limit, with the file, or when a guest panics; the operation
// in flight is cancelled by its context and no pcall keeps the body going.
//
// # Calls
//
// Methods read and check all their arguments first, then do one operation with
// the state's baton given away (file.op), so that other threads of the state
// can go on. Everything else runs with the baton held.
package script
