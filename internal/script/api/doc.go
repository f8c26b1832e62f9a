// Package api is the Lua API of labs, VMs and guests: the global `provium` and the handles
// of VMs, processes, files, workers, streams, system calls, consoles, clocks and snapshots.
// The methods that concern disks and networks come from diskapi and netapi.
//
// It has no logic of labs and VMs: it checks arguments, calls package lab and turns results
// into Lua values. What it needs of the running test is behind Session, which package
// script implements.
//
// Start with Open, then newLabType and newVMType, which list the methods.
package api
