// Package executable knows what programs need to start: which loader and libraries an ELF
// program of this machine is linked against, as ldd says it, and why a guest has not started
// a command.
//
// It executes nothing, copies nothing, and knows no virtual machine.
//
// Start reading at Resolve in libraries.go; diagnose.go looks into a guest.
package executable
