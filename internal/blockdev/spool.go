package blockdev

import "os"

const (
	spoolChunk  = 1 << 20 // bytes
	spoolChunks = 16      // that wait to be written, at most
)

// spool appends to a file in the background, since the one who appends answers a
// guest's request. It is made for one caller at a time.
type spool struct {
	f    *os.File
	cur  []byte
	full chan []byte
	free chan []byte
	done chan struct{}
	err  error // of the writer, once done is closed
}

func newSpool(f *os.File) *spool {
	s := &spool{f: f, full: make(chan []byte, spoolChunks), free: make(chan []byte, spoolChunks+2),
		done: make(chan struct{})}
	go s.run()
	return s
}

func (s *spool) run() {
	defer close(s.done)
	at := int64(0)
	for p := range s.full {
		if s.err == nil {
			_, s.err = s.f.WriteAt(p, at)
			at += int64(len(p))
		}
		select {
		case s.free <- p[:0]:
		default:
		}
	}
}

// append takes n bytes, which fill gives piece by piece; after an error of it the
// spool is of no use. It waits while too much is to be written.
func (s *spool) append(n int64, fill func(p []byte) error) error {
	for n > 0 {
		if s.cur == nil {
			select {
			case s.cur = <-s.free:
			default:
				s.cur = make([]byte, 0, spoolChunk)
			}
		}
		at := len(s.cur)
		k := min(n, int64(cap(s.cur)-at))
		s.cur = s.cur[:at+int(k)]
		if err := fill(s.cur[at:]); err != nil {
			return err
		}
		n -= k
		if len(s.cur) == cap(s.cur) {
			s.full <- s.cur
			s.cur = nil
		}
	}
	return nil
}

// finish writes the rest. Nothing may be appended any more.
func (s *spool) finish() error {
	if s.cur != nil {
		s.full <- s.cur
		s.cur = nil
	}
	close(s.full)
	<-s.done
	s.free = nil
	return s.err
}
