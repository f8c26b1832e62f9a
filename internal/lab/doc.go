// Package lab is the domain: labs and the virtual machines in them, with their
// states, scopes and life cycles, and the operations that a test may ask of
// them.
//
// It knows no Lua and no flags; package script puts the Lua API on top, package
// run builds the Host that all labs of a test file share. It does not draw
// conclusions about tests: it returns errors and hands out findings and events.
//
// # Objects
//
// A Host holds what one test file shares. A Lab owns VMs, bridges and sub-labs. A root
// lab stands for a scope: New makes the one of the file, OpenScope the one of a
// test body, whose lookups fall through to the file's. A VM outlives its
// guests: each boot makes an instance (one QEMU process, its agent link and
// console), and the VM's state follows from it.
//
// # Concurrency
//
// All methods are safe for concurrent use. Life cycle calls of one VM exclude
// each other; guest operations run side by side.
package lab
