package kernelsource

import (
	"context"
	"sync"
)

// Memory remembers texts whose frames were named, so that a report that several ask about is looked up once. It is
// safe for concurrent use.
type Memory struct {
	files Files
	turn  chan struct{} // has a token while a text is looked up

	mu    sync.Mutex
	known []remembered // the latest last
}

type remembered struct {
	text, named string
	err         error
}

// maxRemembered is how many texts are remembered.
const maxRemembered = 16

// NewMemory returns an empty Memory.
func NewMemory(files Files) *Memory { return &Memory{files: files, turn: make(chan struct{}, 1)} }

// Name is Files.Name. Others wait meanwhile: most ask about the same text.
func (m *Memory) Name(ctx context.Context, text string) (named string, err error) {
	if r, ok := m.find(text); ok {
		return r.named, r.err
	}
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return text, context.Cause(ctx)
	}
	if r, ok := m.find(text); ok {
		return r.named, r.err
	}
	named, err = m.files.Name(ctx, text)
	if ctx.Err() == nil { // else more may be found the next time
		m.add(remembered{text, named, err})
	}
	return named, err
}

func (m *Memory) find(text string) (remembered, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.known {
		if r.text == text {
			return r, true
		}
	}
	return remembered{}, false
}

func (m *Memory) add(r remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = append(m.known, r)
	m.known = m.known[max(0, len(m.known)-maxRemembered):]
}
