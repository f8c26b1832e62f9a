// Package handle has the objects of a guest that a test holds: processes, workers,
// open files, streams and system calls under way; and the operations that a VM and
// its workers have alike (commands, files, system calls).
//
// It does not boot guests or keep their states: of a virtual machine it sees the
// interface VM. The requests behind the operations are those of package guest.
//
// Start reading at VM and Actor. An Epoch says which objects a guest still has after
// a boot, a reset or a restore.
package handle
