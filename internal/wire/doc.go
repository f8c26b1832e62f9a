// Package wire is the protocol between the host and the guest agent: framing,
// the session preamble, the typed requests and results, size limits and the
// table of errno names. It moves no bytes on its own account beyond the frame
// Reader, starts no goroutines, and knows neither how an operation is carried
// out (package agent) nor how one is asked for (package guest).
//
// Everything decoded here came from the other side of a machine boundary and
// is treated as hostile: every length is compared with a cap and with the
// bytes that are really there before anything is allocated.
//
// Start with frame.go for what goes over the link, and with request.go for what it
// says; package msgpack encodes the values.
package wire

// ProtocolVersion is the version of the link (and of the event stream). Any
// added, renamed or removed operation, result, field or mode bit raises it:
// host and agent belong to one build and nothing is promised across versions.
const ProtocolVersion uint32 = 2

// Size limits, in bytes unless said otherwise. Both sides enforce them.
const (
	// HeaderSize is the length of a frame header.
	HeaderSize = 16
	// MaxPayload is the largest payload of one frame.
	MaxPayload = 256 << 10
	// ChunkSize is the payload of a full Data frame. With its header the
	// frame is a whole number of the 32 KiB pieces a virtio-serial port
	// writes at once.
	ChunkSize = 128<<10 - HeaderSize
	// Window is the credit each stream of an operation starts with: a sender
	// never has more unacknowledged Data bytes than this under way.
	Window = 2 << 20
	// InlineLimit is how much bulk data is inside a request or result instead of
	// in Data frames.
	InlineLimit = 32 << 10
	// CallInline is the same for a system call's buffers, which the agent hands
	// to the executor in one piece.
	CallInline = 64 << 10
	// MaxRequest is the largest request, all its frames together.
	MaxRequest = 4 << 20
	// MaxResult is the largest result, all its frames together.
	MaxResult = 64 << 20
	// MaxBatch is the largest number of operations in one batch.
	MaxBatch = 1 << 16
	// MaxReadFile is the largest file the host reads into memory.
	MaxReadFile = 96 << 20
	// MaxOutput is how much of each output of a command is kept.
	MaxOutput = 64 << 20
)

// Mode bits of an opened file.
const (
	ModeRead uint32 = 1 << iota
	ModeWrite
	ModeCreate
	ModeTruncate
	ModeAppend
	ModeExclusive
)
