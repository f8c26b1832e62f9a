package recording

import "fmt"

// Machine is what decides whether a guest can be recorded.
type Machine struct {
	IsAMD64, KVM, Vsock, HasRNG, HasArgs, IsDeterministic, HasFirmware, HasDisplay bool

	CPUs, Disks, NICs int
}

// Check returns an error for a machine that cannot be recorded, with what to do.
func Check(m Machine) error {
	refuse := func(what, remedy string) error { return fmt.Errorf("record: %s; %s", what, remedy) }
	switch {
	case !m.IsAMD64:
		return refuse("only guests of x86-64 were tried", "leave --record out")
	case m.KVM:
		return refuse("KVM does not count instructions", "set accel = \"tcg\", or leave it out")
	case m.CPUs > 1:
		return refuse(fmt.Sprintf("QEMU records one CPU, not %d", m.CPUs), "set cpus = 1")
	case m.IsDeterministic:
		return refuse("a deterministic guest does the same in each run by itself", "leave `deterministic` out")
	case m.Vsock:
		return refuse("vsock is served by the host's kernel, past QEMU", "set transport = \"virtio-serial\"")
	case m.Disks > 0:
		return refuse("when a disk is done is not in the log", "use files in the guest's memory")
	case m.NICs > 0:
		return refuse("frames are not in the log", "connect it to no bridge")
	case m.HasRNG:
		return refuse("what a random device returns is not in the log", "leave rng_seed out")
	case m.HasArgs:
		return refuse("what devices of qemu_args do is not in the log", "leave qemu_args out")
	case m.HasFirmware:
		return refuse("firmware and boot_from were not tried", "boot the profile's kernel")
	case m.HasDisplay:
		return refuse("a screen is drawn when the host has the time", "leave `display` out")
	}
	return nil
}
