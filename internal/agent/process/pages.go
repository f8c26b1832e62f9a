package process

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"provium/internal/agent/session"
	"provium/internal/wire"
)

// pages is memory outside of Go's heap, addressed by offsets from 0. It may have
// holes. Its zero value is empty.
//
// It consists of buffers for whole frames, so that what a reader takes a frame at a time
// is sent without a copy.
type pages struct{ chunks map[int64]unsafe.Pointer }

const (
	// chunkBuffers is how many buffers are mapped and unmapped at once.
	chunkBuffers = 16
	pageChunk    = chunkBuffers * wire.ChunkSize // offsets
	chunkMemory  = chunkBuffers * int64(unsafe.Sizeof(session.Buffer{}))
)

// at returns the memory from an offset to the end of its buffer, which it maps if
// need be.
func (m *pages) at(offset int64) ([]byte, error) {
	b, err := m.buffer(offset)
	if err != nil {
		return nil, err
	}
	return b.Payload()[offset%wire.ChunkSize:], nil
}

// buffer returns the buffer of an offset.
func (m *pages) buffer(offset int64) (*session.Buffer, error) {
	i := offset / pageChunk
	p := m.chunks[i]
	if p == nil {
		var err error
		const readWrite, private = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
		p, err = unix.MmapPtr(-1, 0, nil, uintptr(chunkMemory), readWrite, private)
		if err != nil {
			return nil, err
		}
		if m.chunks == nil {
			m.chunks = map[int64]unsafe.Pointer{}
		}
		m.chunks[i] = p
	}
	return &(*[chunkBuffers]session.Buffer)(p)[offset/wire.ChunkSize%chunkBuffers], nil
}

// free unmaps the chunks that lie between two offsets.
func (m *pages) free(from, to int64) {
	for i := (from + pageChunk - 1) / pageChunk; i < to/pageChunk; i++ {
		if p := m.chunks[i]; p != nil {
			_ = unix.MunmapPtr(p, uintptr(chunkMemory))
			delete(m.chunks, i)
		}
	}
}

// close unmaps everything.
func (m *pages) close() {
	for _, p := range m.chunks {
		_ = unix.MunmapPtr(p, uintptr(chunkMemory))
	}
	m.chunks = nil
}
