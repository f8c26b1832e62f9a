package executor

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/sys"
)

// Whose turn it is in shared memory; program/protocol.h says more.
const (
	turnSocket = iota
	turnReady
	turnRequest
	turnLate
)

const (
	sharedSize = 128 << 10
	sharedHead = 8 // before the bytes of a request or an answer
)

// shared is memory that an executor shares with the agent, for calls that are waited
// for on the spot: struct shared in program/protocol.h. A test may write to it at any
// time, so each byte is read once. It belongs to the holder of the executor's sending
// lock. Its zero value has no memory.
type shared struct {
	mem   unsafe.Pointer // nil for none
	tried bool           // it was created, or could not be
}

// create makes the memory and returns a descriptor of it for the executor, or -1. The
// file cannot be made shorter: an access behind its end would kill the agent.
func (s *shared) create() int {
	if s.tried {
		return -1
	}
	s.tried = true
	fd, err := sys.SealedMemory(sharedSize)
	if err != nil {
		return -1
	}
	s.mem, err = unix.MmapPtr(fd, 0, nil, sharedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		s.mem = nil
		sys.CloseNow(fd)
		return -1
	}
	return fd
}

// close unmaps the memory.
func (s *shared) close() {
	if s.mem != nil {
		_ = unix.MunmapPtr(s.mem, sharedSize)
	}
	s.mem, s.tried = nil, true
}

func (s *shared) turn() *uint32 { return (*uint32)(s.mem) }

func (s *shared) bytes() []byte {
	return unsafe.Slice((*byte)(s.mem), sharedSize)[sharedHead:]
}

// put hands a request, whose answer has as many bytes of buffers, to the executor if it
// waits for one here.
func (s *shared) put(head, data []byte) bool {
	if s.mem == nil || atomic.LoadUint32(s.turn()) != turnReady {
		return false
	}
	b := s.bytes()
	if len(head)+len(data) > len(b) || answerSize+len(data) > len(b) {
		return false
	}
	copy(b[copy(b, head):], data)
	if !atomic.CompareAndSwapUint32(s.turn(), turnReady, turnRequest) {
		return false
	}
	s.wake()
	return true
}

// take waits for the answer to what was put, and calls use with its head and the n bytes
// behind that, which are the executor's again afterwards. It reports whether the answer
// came within limit. Otherwise it will come over the socket.
func (s *shared) take(n int, limit time.Duration, use func(head [answerSize]byte, data []byte)) bool {
	for atomic.LoadUint32(s.turn()) == turnRequest {
		err := sys.FutexWait(s.turn(), turnRequest, limit)
		late := err != nil && err != unix.EAGAIN && err != unix.EINTR
		if late && atomic.CompareAndSwapUint32(s.turn(), turnRequest, turnLate) {
			return false
		}
	}
	b := s.bytes()
	use([answerSize]byte(b), b[answerSize:answerSize+n])
	return true
}

// recall ends the executor's wait for a request here, after one was sent over the socket.
func (s *shared) recall() {
	if s.mem != nil && atomic.CompareAndSwapUint32(s.turn(), turnReady, turnSocket) {
		s.wake()
	}
}

func (s *shared) wake() { sys.FutexWake(s.turn()) }

// parseAnswer returns the answer that begins with head, without its bytes, and how many
// there are.
func parseAnswer(head *[answerSize]byte) (a answer, length uint64) {
	e := binary.NativeEndian
	a.id = e.Uint64(head[:])
	a.ret = int64(e.Uint64(head[8:]))
	a.errno = e.Uint32(head[24:])
	a.kind = e.Uint32(head[28:])
	a.fd = -1
	return a, e.Uint64(head[16:])
}
