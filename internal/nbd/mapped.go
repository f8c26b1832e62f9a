package nbd

import (
	"golang.org/x/sys/unix"
)

// mapped is a file as memory, for the kernel to store into: a request's data go
// from the socket to the file in one copy. That pays for pages that the file has.
// A new page costs more this way than by a write, so those count that were written
// before. No code of ours touches the memory: a page that cannot be had would end
// the process. Its zero value has no page.
type mapped struct {
	mem     []byte
	refused bool             // there is no memory for it
	written map[int64]uint64 // a bit per piece, 64 to an entry
}

const (
	pieceBytes = 64 << 10
	// maxMapped is how large a file can be to be mapped, in bytes: a few of them
	// have to fit into a process.
	maxMapped = 1 << 40
)

// wrote notes a write to the file.
func (m *mapped) wrote(off, n int64) {
	for i := (off + pieceBytes - 1) / pieceBytes; (i+1)*pieceBytes <= off+n; i++ {
		if m.written == nil {
			m.written = map[int64]uint64{}
		}
		m.written[i/64] |= 1 << (i % 64)
	}
}

// has tells whether all pages of a range were written.
func (m *mapped) has(off, n int64) bool {
	for i := off / pieceBytes; i*pieceBytes < off+n; i++ {
		if m.written[i/64]&(1<<(i%64)) == 0 {
			return false
		}
	}
	return true
}

// memory gives a range of the file of fd, which has size bytes, as memory, or nil.
func (m *mapped) memory(fd int, size, off, n int64) []byte {
	if m.refused || !m.has(off, n) {
		return nil
	}
	if m.mem == nil {
		if size <= maxMapped {
			m.mem, _ = unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		}
		if m.refused = m.mem == nil; m.refused {
			return nil
		}
	}
	if off+n > int64(len(m.mem)) {
		return nil // the file has grown
	}
	return m.mem[off : off+n]
}

func (m *mapped) close() {
	if m.mem != nil {
		_ = unix.Munmap(m.mem)
		m.mem = nil
	}
}
