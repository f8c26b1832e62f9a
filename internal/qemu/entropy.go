package qemu

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// entropy answers QEMU's rng-egd backend with a byte stream that follows from a seed and
// a use. The backend asks with two bytes, 0x02 and a length, and takes that many raw
// bytes (QEMU backends/rng-egd.c).
type entropy struct {
	file *os.File
	seed uint64

	mu      sync.Mutex
	stream  *rand.ChaCha8
	use     string
	holding bool // each request is answered with the start of the stream
	request [2]byte
	have    int // bytes of request
	err     error
	last    []byte       // what was answered last
	earlier [][]byte     // what was answered before that, the latest last
	thread  kernelThread // of the guest
}

// EntropyBlock is how many bytes Linux asks a virtio-rng device for, and keeps, at a time.
const EntropyBlock = 64

// earlyUse is the use of a stream before the first RestartEntropy. A kernel takes as much
// of it as it likes.
const earlyUse = "early"

// newEntropy returns the server of a machine. run must be called, and closes f. ram is the
// guest's memory, nil where that cannot be read.
func newEntropy(f *os.File, seed uint64, ram *os.File) *entropy {
	return &entropy{file: f, seed: seed, stream: entropyStream(seed, earlyUse), thread: kernelThread{ram: ram}}
}

// serveEntropy starts to answer the random device of a machine with a seed.
func (m *Machine) serveEntropy(f *os.File) {
	memory := m.ram
	if m.cfg.Restore != nil {
		memory = nil // what the guest changes is not in the file
	}
	m.entropy = newEntropy(f, *m.cfg.RNGSeed, memory)
	m.readers.Go(m.entropy.run)
}

// run answers requests until the machine ends.
func (e *entropy) run() {
	defer e.file.Close()
	raw, err := e.file.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.serve(int(fd))
		return e.err != nil // else it waits for more
	})
}

// serve answers all requests that have come. The caller must hold e.mu.
func (e *entropy) serve(fd int) {
	for e.err == nil {
		n, err := unix.Read(fd, e.request[e.have:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err == nil && n == 0:
			err = io.EOF
		}
		if err != nil {
			e.err = err
			return
		}
		if e.have += n; e.have < len(e.request) {
			continue
		}
		e.have = 0
		if e.request[0] != 0x02 {
			e.err = errors.New("unknown request")
			return
		}
		e.answer(int(e.request[1]))
	}
}

// answer answers a request. The caller must hold e.mu.
func (e *entropy) answer(n int) {
	if e.holding {
		e.stream = entropyStream(e.seed, e.use)
	}
	// What the kernel's thread took, a reader of the device must not miss.
	if e.holding || len(e.last) != n || !e.thread.took(e.last) {
		if e.earlier = append(e.earlier, e.last); len(e.earlier) > maxEarlier {
			e.earlier = e.earlier[1:]
		}
		e.last = make([]byte, n)
		_, _ = e.stream.Read(e.last) // never fails
	}
	_, e.err = e.file.Write(e.last)
}

// maxEarlier is how many answers before the last one are kept.
const maxEarlier = 16

// restart begins the stream of a use, and returns its first block. Until release every
// request is answered with the start of it.
func (e *entropy) restart(use string) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.thread.find(e.earlier)
	e.use, e.holding = use, true
	block := make([]byte, EntropyBlock)
	_, _ = entropyStream(e.seed, use).Read(block) // never fails
	return block
}

// release has the stream go on behind the last answer. What the guest asked for before,
// which has arrived since the device is notified without an ioeventfd, is still answered
// with the start.
func (e *entropy) release() {
	raw, err := e.file.SyscallConn()
	if err != nil {
		return // the machine has ended
	}
	_ = raw.Control(func(fd uintptr) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.serve(int(fd))
		e.thread.forget(e.last)
		e.holding = false
	})
}

// entropyStream returns the stream of a seed and a use: the same ones give the same
// bytes, whatever sizes they are asked for in.
func entropyStream(seed uint64, use string) *rand.ChaCha8 {
	text := binary.LittleEndian.AppendUint64([]byte("provium virtio-rng seed "), seed)
	return rand.NewChaCha8(sha256.Sum256(append(text, use...)))
}

// RestartEntropy begins the byte stream of a use on the random device of a machine with a
// seed, and returns its first block. The device repeats that block until ReleaseEntropy, so
// that a guest can bring its drivers to the start of the stream, whatever its kernel reads
// meanwhile. It returns nil when the machine has no seed.
func (m *Machine) RestartEntropy(use string) []byte {
	if m.entropy == nil {
		return nil
	}
	return m.entropy.restart(use)
}

// ReleaseEntropy has the device go on behind the block of RestartEntropy. Requests of the
// guest before the call still get that block.
func (m *Machine) ReleaseEntropy() {
	if m.entropy != nil {
		m.entropy.release()
	}
}

// KernelEntropy returns n bytes for the random generator of a guest's kernel that follow
// from a seed and a use.
func KernelEntropy(seed uint64, use string, n int) []byte {
	out := make([]byte, n)
	_, _ = entropyStream(seed, "kernel of "+use).Read(out) // never fails
	return out
}

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
