// Package byhand gives one guest to a person or to another program: it boots it, runs a
// command in it as if it ran on the host (exec.go), or on a terminal (shell.go), or connects
// a terminal with its console (console.go).
//
// It reads no flags and no configuration, and does not know tests or Lua. Start with
// guest.go, then exec.go.
package byhand
