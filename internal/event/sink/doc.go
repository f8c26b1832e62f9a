// Package sink has the places that a stream of events can go to: a file, a pipe such as
// standard output, and the clients of a unix socket.
//
// It does not decide which events are emitted and does not read streams. Start with File,
// Pipe and Socket.
package sink
