package event

// OperationStatus says how an operation ended.
type OperationStatus string

// The statuses of operations.
const (
	OperationOK     OperationStatus = "ok"
	OperationFailed OperationStatus = "failed" // it has raised an error
)

// OperationStarted announces a call of a test that waits for something. It is left out
// where [OperationEnded], which has all that this has, follows within milliseconds.
type OperationStarted struct {
	Path string `msgpack:"path"`
	// Name is that of the test, empty for the chunk.
	Name string `msgpack:"name"`
	// ID is the number of the operation within its file.
	ID uint64 `msgpack:"id"`
	// VMName is the VM that the operation concerns, or empty.
	VMName string `msgpack:"vm_name"`
	// Call is the call with its arguments, long ones cut: vm:run("make").
	Call string `msgpack:"call"`
	// Where is the file and line of the call.
	Where string `msgpack:"where"`
	// StartNS is when it started, in nanoseconds since 1970.
	StartNS int64 `msgpack:"start_ns"`
}

// OperationEnded is an operation with its result.
type OperationEnded struct {
	Path       string          `msgpack:"path"`
	Name       string          `msgpack:"name"`
	ID         uint64          `msgpack:"id"`
	VMName     string          `msgpack:"vm_name"`
	Call       string          `msgpack:"call"`
	Where      string          `msgpack:"where"`
	StartNS    int64           `msgpack:"start_ns"`
	DurationNS uint64          `msgpack:"duration_ns"`
	Status     OperationStatus `msgpack:"status"`
	// Result is what was returned, or the error, in one short line.
	Result string `msgpack:"result"`
	// ExitCode is that of a command; nil: there is none.
	ExitCode *int64 `msgpack:"exit_code"`
	// Errno is the Linux error number of a system call or a guest operation, or 0.
	Errno uint32 `msgpack:"errno"`
	// Output is the beginning of what a command printed.
	Output string `msgpack:"output"`
}

// NetworkChanged is emitted when a test has changed a rule, a partition, a member or a
// link of a bridge.
type NetworkChanged struct {
	Path   string `msgpack:"path"`
	Name   string `msgpack:"name"`
	Bridge string `msgpack:"bridge"`
	// VMName is the VM whose link changes, or empty.
	VMName string `msgpack:"vm_name"`
	// Change is the method that was called, such as partition.
	Change string `msgpack:"change"`
	Call   string `msgpack:"call"`
	Where  string `msgpack:"where"`
}

// DiskChanged is emitted when a test has changed the rules of a disk, cut its power,
// attached or detached it.
type DiskChanged struct {
	Path   string `msgpack:"path"`
	Name   string `msgpack:"name"`
	VMName string `msgpack:"vm_name"`
	Disk   string `msgpack:"disk"`
	// Change is the method that was called, such as fail_reads or power_cut.
	Change string `msgpack:"change"`
	Call   string `msgpack:"call"`
	Where  string `msgpack:"where"`
}

// DiskFault tells that requests have met faults of a disk. Those of one rule and kind
// that follow each other quickly are one event.
type DiskFault struct {
	Path   string `msgpack:"path"`
	VMName string `msgpack:"vm_name"`
	Disk   string `msgpack:"disk"`
	// Rule is the method, or the rule, that made the requests fail.
	Rule string `msgpack:"rule"`
	// Op is the kind of request: read, write, discard or flush.
	Op string `msgpack:"op"`
	// Sector and Sectors are those of the first request.
	Sector  uint64 `msgpack:"sector"`
	Sectors uint64 `msgpack:"sectors"`
	// Effect is what happened: an errno, or the effect of a rule.
	Effect string `msgpack:"effect"`
	// Count is how many requests this event stands for.
	Count uint64 `msgpack:"count"`
}

// ClockChanged is emitted when a test has changed the clock of a guest.
type ClockChanged struct {
	Path   string `msgpack:"path"`
	Name   string `msgpack:"name"`
	VMName string `msgpack:"vm_name"`
	Change string `msgpack:"change"`
	Call   string `msgpack:"call"`
	Where  string `msgpack:"where"`
}
