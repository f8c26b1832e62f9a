// Package event defines the closed set of structured events a run emits, their
// encoding as msgpack frames, and the bus that stamps and distributes them.
//
// A stream is a sequence of frames: a 4-byte big-endian length and that many
// bytes of msgpack, a map of ts, kind and payload. Frames are decoded as
// hostile input: lengths are capped, every field is checked, and an error
// names the byte offset it was found at.
//
// The package does not decide when an event is due, does not render events
// for people (see package report) and knows nothing of sockets. Start with the
// kinds in kinds.go, then AppendFrame.
package event

// ProtocolVersion is raised whenever a kind or a field is added, renamed or
// removed. It is shared with the link between host and guest agent.
const ProtocolVersion = 2
