package topology

// State is the state of a VM.
type State string

// The states of a VM.
const (
	Created  State = "created"
	Booted   State = "booted"
	Paused   State = "paused"
	Shutdown State = "shutdown"
	Dead     State = "dead" // the guest ended by itself: power-off, panic, QEMU gone, agent lost
)
