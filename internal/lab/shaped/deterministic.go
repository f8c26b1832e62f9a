package shaped

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"provium/internal/arch"
	"provium/internal/beside"
	"provium/internal/determinism"
	"provium/internal/instance"
	"provium/internal/machine"
	"provium/internal/network"
	"provium/internal/qemu"
	"provium/internal/qemu/accelerator"
	"provium/internal/ready"
)

// Of returns the shape of a profile with the options of a boot. Machines of the local VMM run no kernel that could do
// the same twice.
func Of(profile, opts machine.Shape, isLocal bool) machine.Shape {
	s := profile.Merge(opts)
	if isLocal {
		s.Deterministic, s.Shares, s.TPM = nil, nil, nil
	}
	return s
}

// Accel chooses the accelerator where the profile says accel.
func Accel(s machine.Shape, accel string, guest *arch.Arch, host accelerator.Host) (accelerator.Choice, error) {
	if s.CountsInstructions() && (accel == "" || accel == "auto") {
		accel = "tcg"
	}
	return accelerator.Choose(accel, guest, host)
}

// How long an agent has to answer after a boot.
const (
	agentTimeoutKVM = 30 * time.Second
	agentTimeoutTCG = 120 * time.Second
)

// AgentTimeout returns how long an agent has to answer after a boot: what was asked for, if that is not 0.
func AgentTimeout(asked time.Duration, accel string) time.Duration {
	switch {
	case asked != 0:
		return asked
	case accel == "kvm":
		return agentTimeoutKVM
	}
	return agentTimeoutTCG
}

// Append returns what goes to the end of the kernel's command line.
func Append(s machine.Shape, appended string) string {
	if s.IsDeterministic() {
		appended = strings.TrimSpace(qemu.SyncOption + " " + appended)
	}
	return appended
}

// CheckWait returns an error for a deterministic guest whose boot does not wait for its agent, and for devices that
// cannot be served.
func CheckWait(s machine.Shape, isOptional bool, wait ready.Condition) error {
	if len(s.Shares) > 0 && s.CountsInstructions() {
		return errors.New("rw: the host decides when a file is there, so a deterministic or recorded guest has no " +
			"shared directories")
	}
	if s.HasTPM() && s.CountsInstructions() {
		return errors.New("tpm: a program of the host answers for it when it is done, so a deterministic or recorded " +
			"guest has none")
	}
	if err := beside.Check(&s); err != nil {
		return err
	}
	if !s.IsDeterministic() {
		return nil
	}
	if isOptional || wait.Kind == ready.Console {
		return errors.New("deterministic: the guest meets its host by its agent; let the boot wait for that (wait = " +
			"\"agent\", and `ready` of the profile)")
	}
	return nil
}

// Seed returns the seed of a VM's guest in a run.
func Seed(run uint64, vm string) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "guest %d %s", run, vm))
	return binary.BigEndian.Uint64(sum[:])
}

// Identity says what of a run's seed is in the guests of a shape, "" for nothing.
func Identity(s machine.Shape, seed uint64) string {
	if !s.IsDeterministic() {
		return ""
	}
	return fmt.Sprintf(" seed %d disturb %t", seed, s.Disturb)
}

// SeedOfUse returns the seed of what the host of a guest draws, for a use of the guest's seed.
func SeedOfUse(seed uint64, use string) uint64 {
	if use == instance.UseOfBoot {
		return seed
	}
	return Seed(seed, use)
}

// ForCache returns the machine of a boot whose snapshot serves boots of all seeds.
func ForCache(cfg *qemu.Config) *qemu.Config {
	c := *cfg
	c.Seed, c.Shape.Disturb, c.Checks = 0, false, nil
	return &c
}

// Pace has the interfaces of a deterministic guest be paced. join has its frames pass, and is called when it has
// booted.
func Pace(cfg *qemu.Config, w *World, interfaces *network.Netdevs, join func(again bool)) {
	if cfg.Shape.IsDeterministic() {
		cfg.Group = interfaces.Pace(w.wires, join)
	}
}

// World is what the deterministic guests have in common that can meet: those of a file, or those of a fixture while it
// is built. A run that finds the fixture in the cache is no other run.
type World struct {
	Uses  instance.Uses      // of seeds
	Check *determinism.Check // of the guests' runs
	wires *network.Wires
}

// NewWorld returns a World. check is nil where runs are not compared.
func NewWorld(seed uint64, check *determinism.Check) *World {
	return &World{Check: check, wires: network.NewWires(seed)}
}

// Renewal returns what is renewed in the guest of a machine that goes on from a snapshot. In a deterministic one, all
// follows from its seed.
func Renewal(cfg *qemu.Config, r *instance.Renewal) *instance.Renewal {
	if cfg.Shape.IsDeterministic() {
		r.Seed, r.FixedTime = &cfg.Seed, true
	}
	return r
}

// refused are the acts on a guest that happen at a time of which the guest would see when it was.
var refused = map[string]string{
	"pause": "vm:pause()", "resume": "vm:resume()", "reset": "vm:reset()", "wakeup": "vm:wakeup()",
	"wait_reboot": "vm:wait_reboot()", "power_button": "vm:power_button()",
	"attach_disk": "attaching a disk", "detach": "detaching a disk", "resize": "resizing a disk",
	"gdb": "gdb", "qmp": "vm:qmp()", "console:write": "input on a console",
}

// ErrNotRecorded is returned for a boot of a recorded guest that cannot be served from the boot cache.
var ErrNotRecorded = errors.New("record: a guest is recorded from its boot in the cache on, and this boot cannot be " +
	"kept there: leave out `cold`, `boot_cache = false` and boots of a vm that has already run, or --record")

// NotDeterministic is returned for an act that a deterministic guest would see.
type NotDeterministic struct{ VM, Op string }

func (e *NotDeterministic) Error() string {
	return fmt.Sprintf("vm `%s` is deterministic, and %s is not possible: the guest would see when it happens; "+
		"boot the VM without `deterministic`", e.VM, e.Op)
}

// May returns an error for an act on a running guest that a deterministic one would see, or that is not in the
// recording of a recorded one.
func May(vm, op string, s machine.Shape) error {
	switch name, not := refused[op]; {
	case not && s.IsDeterministic():
		return &NotDeterministic{vm, name}
	case not && s.Record:
		return fmt.Errorf("vm `%s` is recorded, and %s is not in the recording: run the test without --record",
			vm, name)
	case op == "snapshot" && len(s.Shares) > 0:
		return fmt.Errorf("vm `%s` cannot be saved: %w", vm, machine.ErrShares)
	case op == "snapshot" && s.Record:
		return fmt.Errorf("vm `%s` is recorded, and a snapshot would stop its recording: run the test without "+
			"--record", vm)
	}
	return nil
}
