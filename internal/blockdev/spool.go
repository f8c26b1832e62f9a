package blockdev

import "os"

const (
	spoolChunk  = 1 << 20 // bytes
	spoolChunks = 16      // that wait to be written, at most
)

// spool appends to a file in the background, since a request of the guest waits for the
// caller. One caller may use it at a time.
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

// append appends n bytes, which it gets from fill piece by piece. After an error of fill
// the spool must not be used. It waits while too much is queued.
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

// finish writes the rest. append must not be called after it.
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
