// Package sys makes Linux system calls for the agent in two ways: with the
// knowledge of the Go scheduler where a call may block (call.go), and without it
// where a call cannot (nowait.go). It also waits for descriptors in the runtime's
// poller without holding a thread (poll.go).
//
// It knows no operation and no message of the link. Start with nowait.go, whose
// first comment says what the difference is worth.
package sys
