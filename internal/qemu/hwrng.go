package qemu

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// kernelThread tells what the thread "hwrng" of a guest's Linux takes of the random device
// from what readers of /dev/hwrng take. The device sees no difference, but the thread has a
// buffer of its own, in which a block lies by the time the driver asks for the next one.
type kernelThread struct {
	ram     *os.File // the guest's memory; nil: nothing is told apart
	buffers []int64  // where in it the buffer may be
}

// find looks for the buffer: it has what the kernel took before anybody opened the device.
func (k *kernelThread) find(taken [][]byte) {
	k.buffers = nil
	if k.ram == nil {
		return
	}
	want := map[[EntropyBlock]byte]bool{}
	for _, block := range taken {
		if len(block) == EntropyBlock {
			want[[EntropyBlock]byte(block)] = true
		}
	}
	if len(want) == 0 {
		return
	}
	info, err := k.ram.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	memory, err := unix.Mmap(int(k.ram.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return
	}
	defer func() { _ = unix.Munmap(memory) }()
	var starts [256]bool // a look at each block must be cheap
	for block := range want {
		starts[block[0]] = true
	}
	for at := int64(0); ; {
		from, err := unix.Seek(int(k.ram.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			return // no more data
		}
		to, err := unix.Seek(int(k.ram.Fd()), from, unix.SEEK_HOLE)
		if err != nil {
			return
		}
		// Blocks that the kernel allocates are aligned to their size.
		for p := from; p+EntropyBlock <= min(to, int64(len(memory))); p += EntropyBlock {
			if starts[memory[p]] && want[[EntropyBlock]byte(memory[p:])] {
				k.buffers = append(k.buffers, p)
			}
		}
		at = to
	}
}

// took reports whether the thread has just taken a block. It changes a byte of the thread's
// buffer, which only feeds the kernel's generator: the block will be taken once more.
func (k *kernelThread) took(block []byte) bool {
	for _, at := range k.buffers {
		if k.has(at, block) {
			_, err := k.ram.WriteAt([]byte{^block[0]}, at)
			return err == nil
		}
	}
	return false
}

// forget excludes the places with a block that a reader has taken: they are not the thread's.
func (k *kernelThread) forget(block []byte) {
	k.buffers = slices.DeleteFunc(k.buffers, func(at int64) bool { return k.has(at, block) })
}

func (k *kernelThread) has(at int64, block []byte) bool {
	var there [EntropyBlock]byte
	_, err := k.ram.ReadAt(there[:], at)
	return err == nil && bytes.Equal(there[:], block)
}
