package sys

// Each of these is an instruction that does nothing, at which the emulator of a deterministic
// guest stops it until the host has put its bytes into the agent's port.
func syncEmpty()
func syncSent()
func syncTick()
