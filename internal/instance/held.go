package instance

import (
	"io"
	"sync"

	"provium/internal/qemu"
)

// heldWriter keeps what is written until somebody wants it.
type heldWriter struct {
	mu   sync.Mutex
	held []byte
	over bool
	to   io.Writer
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.to != nil:
		return w.to.Write(p)
	case len(w.held)+len(p) > heldLimit:
		w.over = true
	default:
		w.held = append(w.held, p...)
	}
	return len(p), nil
}

func (w *heldWriter) overflown() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

func (w *heldWriter) set(to io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) > 0 {
		_, _ = to.Write(w.held) // a console's sink takes everything
	}
	w.to, w.held = to, nil
}

// heldEvents keeps QEMU's events until somebody wants them.
type heldEvents struct {
	mu   sync.Mutex
	held []qemu.Event
	over bool
	to   func(qemu.Event)
}

func (h *heldEvents) add(e qemu.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.to != nil:
		h.to(e)
	case len(h.held) == heldEventLimit:
		h.over = true
	default:
		h.held = append(h.held, e)
	}
}

func (h *heldEvents) overflown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

func (h *heldEvents) take() []qemu.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := h.held
	h.held = nil
	return held
}

func (h *heldEvents) set(to func(qemu.Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.held {
		to(e)
	}
	h.to, h.held = to, nil
}

// heldLoss explains the end of a link on behalf of whoever has it.
type heldLoss struct {
	mu sync.Mutex
	to func(error) error
}

func (l *heldLoss) why(err error) error {
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	if to == nil {
		return err
	}
	return to(err)
}

func (l *heldLoss) set(to func(error) error) {
	l.mu.Lock()
	l.to = to
	l.mu.Unlock()
}
