package event

// BootSource says what a guest comes from.
type BootSource string

// The sources of guests.
const (
	BootCold     BootSource = "boot"     // the kernel is booted
	BootCache    BootSource = "cache"    // a boot is served from the boot cache
	BootSnapshot BootSource = "snapshot" // a snapshot is restored, as for forks and fixtures
)

// BootStage is a step on the way to a guest that can be used.
type BootStage string

// The stages, in their order. Those that a boot does not need are left out.
const (
	StageAdmitted BootStage = "admitted" // the pool has room
	StageImage    BootStage = "image"    // kernel and initrd are ready
	StageMachine  BootStage = "machine"  // QEMU runs
	StageAgent    BootStage = "agent"    // the agent has answered
)

// VMBootStarted is emitted when a guest is to be booted or restored. [VMSpawned] or
// [VMBootFailed] follows.
type VMBootStarted struct {
	File    string `msgpack:"file"`
	VMName  string `msgpack:"vm_name"`
	Profile string `msgpack:"profile"`
}

// VMBootStage is emitted when a stage is reached.
type VMBootStage struct {
	File   string    `msgpack:"file"`
	VMName string    `msgpack:"vm_name"`
	Stage  BootStage `msgpack:"stage"`
	// DurationNS is the time since [VMBootStarted].
	DurationNS uint64 `msgpack:"duration_ns"`
}

// VMBootFailed ends a boot that gave no guest.
type VMBootFailed struct {
	File       string `msgpack:"file"`
	VMName     string `msgpack:"vm_name"`
	DurationNS uint64 `msgpack:"duration_ns"`
	Reason     string `msgpack:"reason"`
}

// VMSpawned is emitted when a guest runs and its agent has answered.
type VMSpawned struct {
	File        string     `msgpack:"file"`
	VMName      string     `msgpack:"vm_name"`
	Profile     string     `msgpack:"profile"`
	MemoryBytes uint64     `msgpack:"memory_bytes"`
	CID         uint32     `msgpack:"cid"`
	Source      BootSource `msgpack:"source"`
	// QEMUArgs are arguments of the user's that are on QEMU's command line.
	QEMUArgs []string `msgpack:"qemu_args"`
}

// VMShutdown is emitted when a spawned guest has ended, in whatever way.
type VMShutdown struct {
	File   string `msgpack:"file"`
	VMName string `msgpack:"vm_name"`
	// DurationNS is the guest's uptime.
	DurationNS uint64 `msgpack:"duration_ns"`
	// Reason says why a guest ended that nobody had asked to, or is empty.
	Reason string `msgpack:"reason"`
}

// ConsoleOutput is what a guest has printed on its consoles, in whole lines.
type ConsoleOutput struct {
	File   string `msgpack:"file"`
	VMName string `msgpack:"vm_name"`
	Text   string `msgpack:"text"`
}

// KernelReport is a failure or a warning that a guest's kernel has printed.
type KernelReport struct {
	File   string `msgpack:"file"`
	VMName string `msgpack:"vm_name"`
	// Title is the same for each report of one cause.
	Title string `msgpack:"title"`
	Text  string `msgpack:"text"`
	Panic bool   `msgpack:"panic"`
	// Sort is what the report is about: "KASAN", "hung task".
	Sort string `msgpack:"sort"`
	// Function is the one to blame, or empty.
	Function string `msgpack:"function"`
	// Taint has the letters by which the kernel says what it was tainted by.
	Taint string `msgpack:"taint"`
}
