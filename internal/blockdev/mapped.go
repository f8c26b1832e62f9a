package blockdev

import (
	"golang.org/x/sys/unix"
)

// mapped is a file as memory, for the kernel to store into: the data of a request go from
// the socket to the file in one copy. Only pages that were written before are used, since
// a new page costs more this way than by a write. Our code never accesses the memory: a
// page that cannot be allocated would kill the process. The zero value has no pages.
type mapped struct {
	mem     []byte
	refused bool             // the file cannot be mapped
	written map[int64]uint64 // a bit per page, 64 to an entry
}

const (
	pageBytes = 4 << 10
	// maxMapped is the largest file that is mapped, in bytes: a few of them must fit
	// into a process.
	maxMapped = 1 << 40
)

// wrote notes a write to the file.
func (m *mapped) wrote(off, n int64) {
	first, end := (off+pageBytes-1)/pageBytes, (off+n)/pageBytes
	if first < end && m.written == nil {
		m.written = map[int64]uint64{}
	}
	for ; first < end; first += 64 - first%64 {
		m.written[first/64] |= bitsOf(first, end)
	}
}

// has reports whether all pages of a range were written.
func (m *mapped) has(off, n int64) bool {
	first, end := off/pageBytes, (off+n+pageBytes-1)/pageBytes
	for ; first < end; first += 64 - first%64 {
		if b := bitsOf(first, end); m.written[first/64]&b != b {
			return false
		}
	}
	return true
}

// bitsOf returns a bit for each page from first on, up to end or the end of the entry.
func bitsOf(first, end int64) uint64 {
	low := uint(first % 64)
	n := uint(min(end-first, 64-first%64))
	return (1<<n - 1) << low // with 64 of them the shift is 0, less one all
}

// memory returns a range of the file of fd, which has size bytes, as memory, or nil.
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
