// Package syncpoint makes guests deterministic: it decides when their only CPU goes on.
//
// QEMU counts a deterministic guest's time in instructions, so the guest does the same in each
// run if the host's bytes reach it at the same instructions. Its agent passes sync points,
// instructions at which a QEMU plugin (program/) stops the CPU until the Pacer answers. The Pacer
// takes what the guest has sent, waits until the host has done all that follows from it, puts the
// host's bytes into the guest's port, and lets it go on. While the host waits for nothing, the guest
// stands.
//
// It starts no QEMU (package qemu) and knows nothing of what the bytes mean (package guest).
//
// Start reading at Pacer.
package syncpoint
