package event

// RunStarted begins a run, or one of its iterations. It is the first event of a saved
// stream.
type RunStarted struct {
	// ProtocolVersion is [ProtocolVersion] of the program that emits the stream.
	ProtocolVersion uint32 `msgpack:"protocol_version"`
	// Version is that of the program.
	Version string `msgpack:"version"`
	// Project is the directory of provium.toml.
	Project string `msgpack:"project"`
	// Iteration counts from 1.
	Iteration uint32 `msgpack:"iteration"`
	// Files is how many files are selected.
	Files uint32 `msgpack:"files"`
	// Shard is the part of the selection, like 2/3, or empty.
	Shard string `msgpack:"shard"`
	// Selection is the digest of the paths of all files of which the shard is a part, and of what
	// chooses tests of them.
	Selection string `msgpack:"selection"`
	// Durations is the digest of the file that has balanced the shards, or empty.
	Durations string `msgpack:"durations"`
	// Seed is the base of what chance decides.
	Seed uint64 `msgpack:"seed"`
	// Repeat has the flags that repeat what chance decided, empty if a run without flags does.
	Repeat string `msgpack:"repeat"`
	// Accelerator is "kvm", "tcg" or, for a run without guests, empty.
	Accelerator string `msgpack:"accelerator"`
	// Pool is what all files share.
	Pool Amount `msgpack:"pool"`
}

// RunCompleted ends what [RunStarted] has begun.
type RunCompleted struct {
	// ExitCode is that of the iteration.
	ExitCode   uint32 `msgpack:"exit_code"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// NotStarted counts the selected files that never started.
	NotStarted  uint32 `msgpack:"not_started"`
	Interrupted bool   `msgpack:"interrupted"`
}

// EventsLost stands in the stream of a reader that was too slow, in place of the events
// that it did not get.
type EventsLost struct {
	Count uint64 `msgpack:"count"`
}

// BlockReason says why a file waits.
type BlockReason string

// The reasons of file_blocked.
const (
	BlockedPoolFull    BlockReason = "pool_full"
	BlockedPSIPressure BlockReason = "psi_pressure"
	BlockedJobsLimit   BlockReason = "jobs_limit"
)

// FileStatus says how a file ended.
type FileStatus string

// The statuses of file_completed.
const (
	FilePassed   FileStatus = "passed"
	FileFailed   FileStatus = "failed"
	FileTimedOut FileStatus = "timed_out"
	FileCrashed  FileStatus = "crashed"
	// FileInterrupted is the status of a file that was ended while it ran.
	FileInterrupted FileStatus = "interrupted"
)

// FileDiscovered announces one selected file. All come before the first dispatch.
type FileDiscovered struct {
	Path string `msgpack:"path"`
	// FixtureRefs holds the fixture names written literally in the file.
	FixtureRefs []string `msgpack:"fixture_refs"`
	// DeclaredClaim is the claim written with literals at file scope, or nil.
	DeclaredClaim *Amount `msgpack:"declared_claim"`
}

// FileBlocked is emitted when a file starts to wait, or waits for another reason.
type FileBlocked struct {
	Path       string      `msgpack:"path"`
	WaitingFor Amount      `msgpack:"waiting_for"`
	Reason     BlockReason `msgpack:"reason"`
}

// FileDispatched is emitted when a file starts.
type FileDispatched struct {
	Path string `msgpack:"path"`
	// Reservation is the overhead of a file plus its claim.
	Reservation Amount `msgpack:"reservation"`
}

// FileCompleted is emitted when a dispatched file has ended.
type FileCompleted struct {
	Path       string     `msgpack:"path"`
	Status     FileStatus `msgpack:"status"`
	DurationNS uint64     `msgpack:"duration_ns"`
	// ChunkError is what kept the file as such from running to its end, or empty.
	ChunkError string `msgpack:"chunk_error"`
	// Artifacts is the folder with the evidence of a chunk error. It is empty if nothing was kept.
	Artifacts string `msgpack:"artifacts"`
}

// PoolState is the pool's use, once a second.
type PoolState struct {
	Used      Amount `msgpack:"used"`
	Available Amount `msgpack:"available"`
}

// ClaimAcquired is emitted when a file's claim is granted.
type ClaimAcquired struct {
	Path   string `msgpack:"path"`
	Amount Amount `msgpack:"amount"`
}

// ClaimReleased is emitted when a file's claim is released.
type ClaimReleased struct {
	Path   string `msgpack:"path"`
	Amount Amount `msgpack:"amount"`
}
