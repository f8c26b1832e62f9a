// Package process runs programs in the guest: commands whose operation waits for
// their end (run.go), and processes that outlive it, with their input, outputs
// and signals (table.go, ops.go). It decides what a command's environment, user
// and program are, and keeps outputs for later readers (spool.go).
//
// It does not know the executors, which start the commands: the caller hands a
// Launcher to Table.Run and Table.Start. Start with launch.go, then command.go for
// what is done to a command; tree.go finds its descendants.
package process
