package disk

import (
	"crypto/sha256"

	"provium/internal/blockdev"
	"provium/internal/blockdev/fault"
	"provium/internal/qemu"
)

// Env is what disks need of the run they belong to. It is shared by all disks of a
// test file and must not change after the first use.
type Env struct {
	TempDir string       // of images' copies and sockets; private and short
	Starter qemu.Starter // starts qemu-nbd
	Seed    uint64       // base of what chance decides

	// Digest returns a digest of names within the test file, which seeds are made
	// of.
	Digest func(names ...string) [sha256.Size]byte
	// NextSocket returns a number that no socket of the run has.
	NextSocket func() int
	// Warn reports a failure that fails no operation; nil drops it.
	Warn func(format string, args ...any)
	// Fault is called for each request that meets a fault. It must not block. Nil
	// drops it.
	Fault func(d *Disk, met Fault)
}

// Fault is a request that has met a fault.
type Fault = fault.Met

// watch tells Fault of what requests of a disk with the contents data meet.
func (e *Env) watch(d *Disk, data *blockdev.Disk) {
	if e.Fault != nil {
		data.OnFault(func(met Fault) { e.Fault(d, met) })
	}
}

func (e *Env) warn(format string, args ...any) {
	if e.Warn != nil {
		e.Warn(format, args...)
	}
}
