package event

// Kind is the snake_case name of an event type as it appears on the wire.
type Kind string

// The closed set of kinds.
const (
	KindFileDiscovered      Kind = "file_discovered"
	KindFileBlocked         Kind = "file_blocked"
	KindFileDispatched      Kind = "file_dispatched"
	KindFileCompleted       Kind = "file_completed"
	KindTestStarted         Kind = "test_started"
	KindTestPassed          Kind = "test_passed"
	KindTestFailed          Kind = "test_failed"
	KindTestSkipped         Kind = "test_skipped"
	KindVMSpawned           Kind = "vm_spawned"
	KindVMShutdown          Kind = "vm_shutdown"
	KindPoolState           Kind = "pool_state"
	KindClaimAcquired       Kind = "claim_acquired"
	KindClaimReleased       Kind = "claim_released"
	KindFixtureBuildStarted Kind = "fixture_build_started"
	KindFixtureBuildWaiting Kind = "fixture_build_waiting"
	KindFixtureBuildDone    Kind = "fixture_build_done"
	KindFixtureCacheHit     Kind = "fixture_cache_hit"
)

// Event is one of the event structs of this package, passed by value. The set
// is closed: no other package can add to it.
type Event interface {
	// Kind names the event's type on the wire.
	Kind() Kind
	event()
}

// Envelope is an event with the time it was emitted.
type Envelope struct {
	// TS is the host clock at emission, in nanoseconds since 1970.
	TS    int64
	Event Event

	payload []byte // of the event as it stands in a frame, or nil
}

// Amount is a share of the pool.
type Amount struct {
	// MemoryBytes counts bytes of host memory.
	MemoryBytes uint64 `msgpack:"memory_bytes"`
	// CPUs counts virtual CPUs.
	CPUs uint32 `msgpack:"cpus"`
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
}

// TestStarted precedes every test's result, also that of a skipped test.
type TestStarted struct {
	Path string `msgpack:"path"`
	Name string `msgpack:"name"`
	Meta Meta   `msgpack:"meta"`
}

// TestPassed is a test's result.
type TestPassed struct {
	Path       string   `msgpack:"path"`
	Name       string   `msgpack:"name"`
	DurationNS uint64   `msgpack:"duration_ns"`
	Meta       Meta     `msgpack:"meta"`
	Log        []string `msgpack:"log"`
}

// TestFailed is a test's result.
type TestFailed struct {
	Path       string `msgpack:"path"`
	Name       string `msgpack:"name"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// Reason has the message on its first lines; difference, traceback and the
	// last operations follow.
	Reason string `msgpack:"reason"`
	// ConsoleExcerpt is the end of the consoles of the test's VMs, may be empty.
	ConsoleExcerpt string   `msgpack:"console_excerpt"`
	Meta           Meta     `msgpack:"meta"`
	Log            []string `msgpack:"log"`
}

// TestSkipped is a test's result.
type TestSkipped struct {
	Path   string `msgpack:"path"`
	Name   string `msgpack:"name"`
	Reason string `msgpack:"reason"`
	Meta   Meta   `msgpack:"meta"`
}

// VMSpawned is emitted when a guest runs and its agent has answered.
type VMSpawned struct {
	File        string `msgpack:"file"`
	VMName      string `msgpack:"vm_name"`
	Profile     string `msgpack:"profile"`
	MemoryBytes uint64 `msgpack:"memory_bytes"`
	CID         uint32 `msgpack:"cid"`
}

// VMShutdown is emitted when a spawned guest has ended, in whatever way.
type VMShutdown struct {
	File   string `msgpack:"file"`
	VMName string `msgpack:"vm_name"`
	// DurationNS is the guest's uptime.
	DurationNS uint64 `msgpack:"duration_ns"`
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

// FixtureBuildStarted names the fixture being built.
type FixtureBuildStarted struct {
	Path string `msgpack:"path"`
}

// FixtureBuildWaiting is emitted when a file waits for another file's build.
type FixtureBuildWaiting struct {
	Path       string `msgpack:"path"`
	HeldByFile string `msgpack:"held_by_file"`
}

// FixtureBuildDone ends a build, also a failed one.
type FixtureBuildDone struct {
	Path       string `msgpack:"path"`
	DurationNS uint64 `msgpack:"duration_ns"`
	// SnapshotBytes is the size on disk, 0 after a failed build.
	SnapshotBytes uint64 `msgpack:"snapshot_bytes"`
}

// FixtureCacheHit is emitted when a restore from the cache has succeeded.
type FixtureCacheHit struct {
	Path string `msgpack:"path"`
}
