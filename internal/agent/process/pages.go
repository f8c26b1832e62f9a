package process

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// pageChunk is how much memory pages maps and unmaps at once, in bytes.
const pageChunk = 2 << 20

// pages is memory outside of Go's heap, addressed by offsets from 0. It may have
// holes. Its zero value is empty.
type pages struct{ chunks map[int64]unsafe.Pointer }

// at returns the memory from an offset to the end of its chunk, which it maps if
// need be.
func (m *pages) at(offset int64) ([]byte, error) {
	i := offset / pageChunk
	p := m.chunks[i]
	if p == nil {
		var err error
		const readWrite, private = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
		p, err = unix.MmapPtr(-1, 0, nil, pageChunk, readWrite, private)
		if err != nil {
			return nil, err
		}
		if m.chunks == nil {
			m.chunks = map[int64]unsafe.Pointer{}
		}
		m.chunks[i] = p
	}
	return unsafe.Slice((*byte)(p), pageChunk)[offset%pageChunk:], nil
}

// free unmaps the chunks that lie between two offsets.
func (m *pages) free(from, to int64) {
	for i := (from + pageChunk - 1) / pageChunk; i < to/pageChunk; i++ {
		if p := m.chunks[i]; p != nil {
			_ = unix.MunmapPtr(p, pageChunk)
			delete(m.chunks, i)
		}
	}
}

// close unmaps everything.
func (m *pages) close() {
	for _, p := range m.chunks {
		_ = unix.MunmapPtr(p, pageChunk)
	}
	m.chunks = nil
}
