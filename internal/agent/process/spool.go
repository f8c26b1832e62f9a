package process

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// spool keeps one output of a process. The first bytes, up to its limit, stay for the
// operations that wait for the process. Those behind them are kept for open
// readers only, as far as the limit before the slowest. There the writer is held
// up while there are readers and no operation waits for the process. Otherwise
// bytes are lost, and a mark in the reader's stream says how many. A spool is safe
// for concurrent use.
type spool struct {
	limit int64

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	memory  pages         // the bytes, at their own offsets
	size    int64         // bytes that came
	kept    int64         // bytes at the start that stay, at most limit
	from    int64         // first byte behind kept that is still there
	ended   bool          // the process has: nothing is held up any more
	done    bool          // nothing follows
	closed  bool
	readers []*spoolReader
	waiting int // operations that must not be held up by readers
}

// spoolReader is a position in a spool. It belongs to one goroutine.
type spoolReader struct {
	s   *spool
	pos int64
}

func newSpool(limit int64) *spool { return &spool{limit: limit, changed: make(chan struct{})} }

// wake announces a change. The caller must hold s.mu.
func (s *spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// room waits until more may be taken.
func (s *spool) room() {
	for {
		s.mu.Lock()
		full := !s.ended && !s.closed && s.waiting == 0 &&
			len(s.readers) > 0 && s.size-s.slowest() >= s.limit
		changed := s.changed
		s.mu.Unlock()
		if !full {
			return
		}
		<-changed
	}
}

// slowest returns the position of the reader that is furthest behind, or the end
// of the output. The caller must hold s.mu.
func (s *spool) slowest() int64 {
	pos := s.size
	for _, r := range s.readers {
		pos = min(pos, r.pos)
	}
	return pos
}

// keeps reports whether what comes next is kept. The caller must hold s.mu.
func (s *spool) keeps() bool {
	return !s.closed && (len(s.readers) > 0 || s.size < s.limit && s.from <= s.kept)
}

// space returns memory for what comes next: the spool's own, so that nothing is
// copied, or spare where nothing is kept. One goroutine may add at a time.
func (s *spool) space(spare []byte) (p []byte, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeps() {
		if p, err := s.memory.at(s.size); err == nil {
			return p, true
		}
	}
	return spare, false
}

// add adds the n bytes that were put into space. Those in spare are lost.
func (s *spool) add(n int, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= 0 || s.closed {
		return
	}
	s.size += int64(n)
	switch {
	case !own:
		s.from = s.size
	case s.from <= s.kept: // nothing was lost so far
		s.kept = min(s.size, s.limit)
	}
	s.trim()
	s.wake()
}

// trim frees what no reader needs any more. The caller must hold s.mu.
func (s *spool) trim() {
	if s.size <= s.limit {
		return
	}
	from := max(s.from, s.limit, s.slowest())
	from = max(from, s.size-s.limit)
	if len(s.readers) == 0 {
		from = s.size
	}
	s.memory.free(max(s.from, s.limit)/pageChunk*pageChunk, from)
	s.from = from
}

// end marks that the process has ended, and finish that nothing follows.
func (s *spool) end() {
	s.mu.Lock()
	s.ended = true
	s.wake()
	s.mu.Unlock()
}

func (s *spool) finish() {
	s.mu.Lock()
	s.done = true
	s.wake()
	s.mu.Unlock()
}

// wait keeps readers from holding the spool up until the returned function is
// called.
func (s *spool) wait() (stop func()) {
	s.mu.Lock()
	s.waiting++
	s.wake()
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.waiting--
		s.mu.Unlock()
	}
}

// close frees the bytes once no reader is left.
func (s *spool) close() {
	s.mu.Lock()
	s.closed, s.done = true, true
	s.free()
	s.wake()
	s.mu.Unlock()
}

// free frees the bytes of a closed spool without readers. The caller must hold
// s.mu.
func (s *spool) free() {
	if s.closed && len(s.readers) == 0 {
		s.memory.close()
		s.kept, s.from = 0, s.size
	}
}

// open returns a reader at the first byte.
func (s *spool) open() *spoolReader {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &spoolReader{s: s}
	s.readers = append(s.readers, r)
	return r
}

func (r *spoolReader) close() {
	s := r.s
	s.mu.Lock()
	s.readers = slices.DeleteFunc(s.readers, func(x *spoolReader) bool { return x == r })
	s.free()
	s.wake()
	s.mu.Unlock()
}

// read fills p with what is next, waiting for something; 0 bytes are the end.
func (r *spoolReader) read(ctx context.Context, p []byte) (int, error) {
	s := r.s
	for {
		s.mu.Lock()
		n, err := s.readAt(r, p)
		done, changed := s.done, s.changed
		if n > 0 {
			s.trim()
			s.wake()
		}
		s.mu.Unlock()
		if n > 0 || err != nil || done {
			return n, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Canceled
		}
	}
}

// readAt copies what is there into p. The caller must hold s.mu.
func (s *spool) readAt(r *spoolReader, p []byte) (int, error) {
	end := s.size
	if r.pos < s.kept {
		end = s.kept
	} else if r.pos < s.from {
		mark := fmt.Sprintf("\n[... %d bytes of output lost: the reader was too slow ...]\n", s.from-r.pos)
		r.pos = s.from
		return copy(p, mark), nil
	}
	n := int(min(int64(len(p)), end-r.pos))
	if n <= 0 {
		return 0, nil
	}
	at, err := s.memory.at(r.pos)
	if err != nil {
		return 0, err
	}
	n = copy(p[:n], at)
	r.pos += int64(n)
	return n, nil
}

// last fills p with the last bytes that are there, and returns how many they are.
func (s *spool) last(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, begin := s.size, int64(0)
	if s.from >= s.size { // what came behind kept is not there any more
		end = s.kept
	} else if s.from > s.kept {
		begin = s.from
	}
	r := spoolReader{s: s, pos: max(begin, end-int64(len(p)))}
	for n < len(p) && r.pos < end {
		k, err := s.readAt(&r, p[n:])
		if err != nil || k == 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}

// truncated reports whether bytes are missing from what stays.
func (s *spool) truncated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size > s.kept
}
