package display

import (
	"bytes"
	"io"
	"sync"
	"time"

	"provium/internal/event"
)

// Config is what a Display needs.
type Config struct {
	// Screen is a terminal that obeys cursor movements. If it is nil, notices of
	// what is slow are written to Notes in place of the status area.
	Screen io.Writer
	// Size returns the size of the terminal, 0 where it is not known.
	Size func() (rows, cols int)
	// Color says that the terminal shows colours.
	Color bool
	// Notes takes notices and descriptions where there is no terminal.
	Notes io.Writer
	// Now is the clock.
	Now func() time.Time
	// Expected returns how long a file took in earlier runs, 0 if that is not known. It may
	// be nil.
	Expected func(path string) time.Duration
}

// Display shows a run. It is a sink of its events, and safe for concurrent use: events never
// wait for the terminal.
type Display struct {
	cfg Config

	state    sync.Mutex // held for what events change
	progress *progress

	screen sync.Mutex // held while something is written; before state
	area   area
	hidden int // pauses
	closed bool
	held   []*writer // with the begin of a line
}

// New returns a display. The caller must call Tick some times a second, and Close at the end.
func New(cfg Config) *Display {
	return &Display{cfg: cfg, progress: newProgress(cfg.Expected), area: area{out: cfg.Screen}}
}

// Put implements [event.Sink].
func (d *Display) Put(b *event.Batch) error {
	d.state.Lock()
	defer d.state.Unlock()
	now := d.cfg.Now()
	for _, e := range b.Events {
		d.progress.apply(now, e.Event)
	}
	return nil
}

// Tick brings the status area up to date, or writes the notices that are due.
func (d *Display) Tick() {
	d.screen.Lock()
	defer d.screen.Unlock()
	if d.closed {
		return
	}
	if d.cfg.Screen != nil {
		_ = d.show("", false) // a terminal that is gone holds nothing up
		return
	}
	d.state.Lock()
	notices := d.progress.slow(d.cfg.Now())
	d.state.Unlock()
	for _, text := range notices {
		_, _ = io.WriteString(d.cfg.Notes, text+"\n")
	}
}

// Resized draws the status area anew for a terminal of another size, or one on which another
// program has drawn.
func (d *Display) Resized() {
	d.screen.Lock()
	defer d.screen.Unlock()
	if d.cfg.Screen != nil && !d.closed {
		_ = d.show("", true)
	}
}

// Describe prints what runs, and where each test stands.
func (d *Display) Describe() {
	d.screen.Lock()
	defer d.screen.Unlock()
	d.state.Lock()
	text := d.progress.describe(d.cfg.Now())
	d.state.Unlock()
	switch {
	case d.cfg.Screen == nil:
		_, _ = io.WriteString(d.cfg.Notes, text)
	case !d.closed:
		_ = d.show(text, false)
	}
}

// show prints text above the status area. The caller must hold d.screen.
func (d *Display) show(text string, redraw bool) error {
	var lines []string
	if d.hidden == 0 && !d.closed {
		rows, cols := 24, 80
		if r, c := d.cfg.Size(); r > 0 && c > 0 {
			rows, cols = r, c
		}
		d.state.Lock()
		lines = d.progress.lines(d.cfg.Now(), rows, cols, d.cfg.Color)
		d.state.Unlock()
	}
	return d.area.show(text, lines, redraw && d.hidden == 0)
}

// Pause removes the status area, so that another program has the terminal until Resume is
// called as often.
func (d *Display) Pause() {
	d.screen.Lock()
	defer d.screen.Unlock()
	d.hidden++
	d.flush()
}

// Resume ends a Pause.
func (d *Display) Resume() {
	d.screen.Lock()
	defer d.screen.Unlock()
	d.hidden--
	if d.cfg.Screen != nil {
		_ = d.show("", false)
	}
}

// Close removes the status area, and implements the end of a place of events.
func (d *Display) Close() error {
	d.screen.Lock()
	defer d.screen.Unlock()
	d.closed = true
	d.flush()
	return nil
}

// flush writes lines without an end, and removes the area. The caller must hold d.screen.
func (d *Display) flush() {
	if d.cfg.Screen == nil {
		return
	}
	for _, w := range d.held {
		if w.line.Len() > 0 {
			text := w.line.String()
			w.line.Reset()
			_ = d.show(text, false)
		}
	}
	_ = d.show("", false)
}

// Writer returns what prints above the status area, in whole lines. What is written after the
// end, or while the area is hidden, goes to the terminal as it is.
func (d *Display) Writer() io.Writer {
	w := &writer{d: d}
	d.screen.Lock()
	defer d.screen.Unlock()
	d.held = append(d.held, w)
	return w
}

// writer prints on the terminal of a display.
type writer struct {
	d    *Display
	line bytes.Buffer // without its end
}

// maxHeld is how much of a line without an end is held back.
const maxHeld = 64 << 10

// Write implements [io.Writer].
func (w *writer) Write(p []byte) (int, error) {
	w.d.screen.Lock()
	defer w.d.screen.Unlock()
	if w.d.hidden > 0 || w.d.closed {
		return w.d.cfg.Screen.Write(p)
	}
	w.line.Write(p)
	end := bytes.LastIndexByte(w.line.Bytes(), '\n') + 1
	if w.line.Len()-end > maxHeld {
		w.line.WriteByte('\n')
		end = w.line.Len()
	}
	if end == 0 {
		return len(p), nil
	}
	text := string(w.line.Next(end))
	if err := w.d.show(text, false); err != nil {
		return 0, err
	}
	return len(p), nil
}
