// Package hostfault makes system calls of a process fail, to test what the process does
// then. The calls are held by the kernel (seccomp user notification) and answered by
// another process, so that the code under test is the code that users run, and calls of
// the runtime and of libraries are reached as well.
//
// It does not say what must hold after a fault: tests do. It needs no privileges, only a
// Linux of 5.19 or newer on x86-64.
//
// Start reading at Sweep, which tests use. Supervise is for programs; calls.go has the
// calls, and filter.go the filter that stops them.
package hostfault
