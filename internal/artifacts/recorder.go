package artifacts

import (
	"fmt"
	"io"
	"sync"
	"time"

	"provium/internal/event"
)

const (
	// maxEvents and maxChunkEvents are about how many bytes of events are kept: the latest of a test,
	// and the first of its file, before any test.
	maxEvents      = 16 << 20
	maxChunkEvents = 4 << 20
	// maxAttached is how many bytes of attachments of a test are kept.
	maxAttached = 32 << 20
	// eventSize is what an event takes without its texts, about, in bytes.
	eventSize = 256

	eventsFile = "events.jsonl"
)

// Recorder keeps the events of the running test, with those of the chunk of its file. Its zero value is
// ready. It is safe for concurrent use.
type Recorder struct {
	mu       sync.Mutex
	test     string
	began    bool // a test has
	chunk    []event.Envelope
	events   []event.Envelope
	sizes    []int // of events
	size     int
	dropped  int
	attached []event.TestAttachment
	held     int // bytes of attached
}

// Take takes an event.
func (r *Recorder) Take(e event.Event) {
	env := event.Envelope{TS: time.Now().UnixNano(), Event: e}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := e.(type) {
	case event.TestStarted:
		if !r.began {
			r.began, r.chunk = true, r.events
		}
		r.test = e.Name
		r.clear()
	case event.TestAttachment:
		if r.held += len(e.Data); r.held > maxAttached {
			r.held -= len(e.Data)
			e.Data = nil
		}
		r.attached = append(r.attached, e)
		e.Data = nil
		env.Event = e
	}
	size := sizeOf(e)
	if !r.began && r.size+size > maxChunkEvents {
		r.dropped++
		return
	}
	r.events, r.sizes, r.size = append(r.events, env), append(r.sizes, size), r.size+size
	for r.size > maxEvents {
		r.size -= r.sizes[0]
		r.events, r.sizes = r.events[1:], r.sizes[1:]
		r.dropped++
	}
}

func (r *Recorder) clear() {
	r.events, r.sizes, r.size, r.dropped, r.attached, r.held = nil, nil, 0, 0, nil, 0
}

// sizeOf returns about how many bytes an event takes.
func sizeOf(e event.Event) int {
	switch e := e.(type) {
	case event.ConsoleOutput:
		return eventSize + len(e.Text)
	case event.TestOutput:
		return eventSize + len(e.Text)
	case event.TestLog:
		return eventSize + len(e.Text)
	case event.KernelReport:
		return eventSize + len(e.Text)
	}
	return eventSize
}

// Test returns the name of the running test, "" before the first one.
func (r *Recorder) Test() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.test
}

// Again forgets the events of a run of the test that is to be repeated.
func (r *Recorder) Again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clear()
}

// Save adds the events and attachments to a folder. Those after it are of the next attempt.
func (r *Recorder) Save(f *Folder) {
	r.mu.Lock()
	chunk, events, dropped, attached := r.chunk, r.events, r.dropped, r.attached
	r.mu.Unlock()
	f.Add(eventsFile, "the events of the chunk of the file and of the test, which docs/events.md describes, without "+
		"contents of attachments", maxFolder, func(w io.Writer) error {
		for _, list := range [][]event.Envelope{chunk, events} {
			b := event.Batch{Events: list}
			lines, err := b.Bytes(event.JSONL)
			if err == nil {
				_, err = w.Write(lines)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if dropped > 0 {
		f.Omit("events", fmt.Errorf("%d are left out, of which there were too many", dropped))
	}
	for i, a := range attached {
		if a.Data == nil && a.Size > 0 {
			f.Omit("the attachment "+a.Attachment, fmt.Errorf("all together have more than %d MiB", maxAttached>>20))
			continue
		}
		f.Add(fmt.Sprintf("attachment-%d-%s", i+1, FileName(a.Attachment)), "an attachment of the test", maxFolder,
			func(w io.Writer) error {
				_, err := w.Write(a.Data)
				return err
			})
	}
}
