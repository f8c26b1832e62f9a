// Package process runs programs in the guest: commands whose operation waits for
// their end (run.go), and processes that outlive it, with their input, outputs
// and signals (table.go, ops.go). It decides what a command's environment, user
// and program are, and keeps outputs for later readers (spool.go).
//
// It does not know the executors: to start a program in one, the caller hands a
// Launch to Table.Start. Start with start.go, which every program goes through.
package process
