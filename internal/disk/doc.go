// Package disk is the disks of a virtual machine: what they are made of, the
// sockets through which QEMU uses them, their faults and power cuts, recordings
// and the states that a power cut could leave, and their part of a snapshot.
//
// It starts no QEMU and plugs nothing: a Shelf describes its disks to a machine,
// and the VM that owns them does the rest. The contents, rules and records are
// package blockdev's, the protocol package nbd's.
//
// Start reading at Shelf in shelf.go, which holds the disks of one VM, and at Disk in
// disk.go. persist.go has the sections of a snapshot, drives.go the disks of a machine
// that is restored from them, origins.go what the boot cache asks.
package disk
