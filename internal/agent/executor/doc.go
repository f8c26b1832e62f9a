// Package executor makes the system calls of tests. A small C program (program/)
// makes them, since the threads, signals and preemption of the Go runtime would
// show in them, and since a lethal call must not kill the agent. The package
// starts these programs, talks to them and reaps them. The VM has one; each
// worker of a test has one of its own. Commands and workers are forks of an
// executor (launch.go), so that they have what calls have made of it.
//
// What a test may call is not its business: limits of the protocol are checked
// by package wire. Start with pool.go, then calls.go; exchange.go is the protocol
// with the program.
package executor
