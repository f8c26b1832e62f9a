package event

// Kind is the snake_case name of an event type as it appears on the wire.
type Kind string

// The closed set of kinds.
const (
	KindRunStarted   Kind = "run_started"
	KindRunCompleted Kind = "run_completed"
	KindEventsLost   Kind = "events_lost"

	KindFileDiscovered Kind = "file_discovered"
	KindFileBlocked    Kind = "file_blocked"
	KindFileDispatched Kind = "file_dispatched"
	KindFileCompleted  Kind = "file_completed"
	KindPoolState      Kind = "pool_state"
	KindClaimAcquired  Kind = "claim_acquired"
	KindClaimReleased  Kind = "claim_released"

	KindTestStarted    Kind = "test_started"
	KindTestPassed     Kind = "test_passed"
	KindTestFailed     Kind = "test_failed"
	KindTestSkipped    Kind = "test_skipped"
	KindTestRetried    Kind = "test_retried"
	KindTestLog        Kind = "test_log"
	KindTestOutput     Kind = "test_output"
	KindTestAttachment Kind = "test_attachment"
	KindStepStarted    Kind = "step_started"
	KindStepEnded      Kind = "step_ended"

	KindOperationStarted Kind = "operation_started"
	KindOperationEnded   Kind = "operation_ended"
	KindNetworkChanged   Kind = "network_changed"
	KindDiskChanged      Kind = "disk_changed"
	KindDiskFault        Kind = "disk_fault"
	KindClockChanged     Kind = "clock_changed"

	KindVMBootStarted Kind = "vm_boot_started"
	KindVMBootStage   Kind = "vm_boot_stage"
	KindVMBootFailed  Kind = "vm_boot_failed"
	KindVMSpawned     Kind = "vm_spawned"
	KindVMShutdown    Kind = "vm_shutdown"
	KindConsoleOutput Kind = "console_output"
	KindKernelReport  Kind = "kernel_report"

	KindFixtureBuildStarted Kind = "fixture_build_started"
	KindFixtureBuildWaiting Kind = "fixture_build_waiting"
	KindFixtureBuildDone    Kind = "fixture_build_done"
	KindFixtureCacheHit     Kind = "fixture_cache_hit"

	KindProfileBuildStarted Kind = "profile_build_started"
	KindProfileBuildOutput  Kind = "profile_build_output"
	KindProfileBuildDone    Kind = "profile_build_done"
	KindDownloadStarted     Kind = "download_started"
	KindDownloadProgress    Kind = "download_progress"
	KindDownloadDone        Kind = "download_done"
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
