package handle

import (
	"slices"
	"sync"

	"provium/internal/stream"
)

// Opened lists what is open in the guests of one VM: streams, files, and system calls
// under way. Its zero value is ready. It is safe for concurrent use.
type Opened struct {
	mu      sync.Mutex
	streams []openedStream // in order of opening
	files   []*File
	calls   map[*AsyncSyscall]bool
}

type openedStream struct {
	stream *stream.Stream
	epoch  *Epoch // of the agent that serves it; nil: it outlives epochs
}

// AddStream opens a stream that no agent serves. It stays in the list until it is
// closed.
func (o *Opened) AddStream(cfg stream.Config) *stream.Stream { return o.addStream(cfg, nil) }

func (o *Opened) addStream(cfg stream.Config, epoch *Epoch) *stream.Stream {
	var s *stream.Stream
	cfg.Closed = func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.streams = slices.DeleteFunc(o.streams, func(x openedStream) bool { return x.stream == s })
	}
	s = stream.New(cfg)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams = append(o.streams, openedStream{s, epoch})
	return s
}

// Streams returns the open streams, in order of opening, without those of the agents
// of other epochs. now is nil when no guest is running.
func (o *Opened) Streams(now *Epoch) []*stream.Stream {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []*stream.Stream
	for _, s := range o.streams {
		if s.epoch == nil || s.epoch == now {
			all = append(all, s.stream)
		}
	}
	return all
}

func (o *Opened) addFile(f *File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = append(o.files, f)
}

func (o *Opened) removeFile(f *File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files = slices.DeleteFunc(o.files, func(x *File) bool { return x == f })
}

// Files returns the number of files that executors of the guest of this epoch have
// open. An executor that ended took its descriptors along. now is nil when no guest is
// running.
func (o *Opened) Files(now *Epoch) int {
	if now == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, f := range o.files {
		if now.has(f.epoch, 0) && now.mayHaveLife(f.by.executor(), f.life) && !f.by.isClosed() {
			n++
		}
	}
	return n
}

func (o *Opened) addCall(c *AsyncSyscall) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls == nil {
		o.calls = map[*AsyncSyscall]bool{}
	}
	o.calls[c] = true
}

func (o *Opened) removeCall(c *AsyncSyscall) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.calls, c)
}

// HasCalls reports whether the guest of this epoch has a system call that was not
// awaited. Those of a closed worker have ended with it. now is nil when no guest is
// running.
func (o *Opened) HasCalls(now *Epoch) bool {
	if now == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.calls {
		if now.has(c.epoch, c.handle) && !c.by.isClosed() {
			return true
		}
	}
	return false
}
