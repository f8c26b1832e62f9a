package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"provium/internal/pattern"
)

// MaxLog is the default bound of a log file, in bytes.
const MaxLog = 64 << 20

// ErrEnded is returned when the guest's console will print nothing more.
var ErrEnded = errors.New("console EOF")

// LogConfig is how a [Log] is kept. The zero value is ready for use.
type LogConfig struct {
	// MaxBytes bounds the file; 0 is [MaxLog].
	MaxBytes int64
}

// Log is everything a guest printed, kept in a file. Above its bound it keeps
// the first quarter, which has the boot, and the latest output, with a mark
// between them. Positions count all bytes ever written, cut ones included.
//
// One writer and any number of readers may use it at the same time.
type Log struct {
	file *os.File // nil while parked
	path string   // of the file
	head int64    // bytes at the start that are kept for good
	ring int64    // bytes behind them that are used round and round

	mu      sync.Mutex
	size    int64
	search  int64 // where the next Expect starts
	ended   bool
	boots   []int64       // where the output of each boot begins
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// CreateLog makes a new log in the file at path, emptying it if it is there.
func CreateLog(path string, cfg LogConfig) (*Log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("console log create: %w", err)
	}
	limit := cfg.MaxBytes
	if limit <= 0 {
		limit = MaxLog
	}
	head := limit / 4
	return &Log{file: f, path: path, head: head, ring: limit - head}, nil
}

// Write appends to the log and wakes those who wait for it. It implements
// io.Writer. After an error the bytes that did not fit are lost, and the log
// goes on with the next write.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.unpark(); err != nil {
		return 0, fmt.Errorf("console log write: %w", err)
	}
	done := 0
	for done < len(p) {
		at, room := l.place(l.size)
		n, err := l.file.WriteAt(p[done:min(int64(len(p)), int64(done)+room)], at)
		l.size += int64(n)
		done += n
		if err != nil {
			l.wake()
			return done, fmt.Errorf("console log write: %w", err)
		}
	}
	l.wake()
	return done, nil
}

// place returns where in the file a position is, and how many bytes follow
// there in one piece.
func (l *Log) place(pos int64) (at, room int64) {
	if pos < l.head {
		return pos, l.head - pos
	}
	in := (pos - l.head) % l.ring
	return l.head + in, l.ring - in
}

// wake wakes all waiting callers. The caller must hold the lock.
func (l *Log) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Len returns how many bytes were written so far, cut ones included.
func (l *Log) Len() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// ReadAll returns the log. Where it was cut stands a line that says how many
// bytes are missing.
func (l *Log) ReadAll() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := l.resume()
	if start == l.head {
		return l.read(0, l.size)
	}
	first, err := l.read(0, l.head)
	if err != nil {
		return nil, err
	}
	rest, err := l.read(start, l.size)
	if err != nil {
		return nil, err
	}
	mark := fmt.Sprintf("\n[... %d bytes of console output cut ...]\n", start-l.head)
	return append(append(first, mark...), rest...), nil
}

// Tail returns the last n bytes, or fewer if the log has fewer.
func (l *Log) Tail(n int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := max(0, l.size-int64(max(n, 0)))
	if s := l.resume(); from < s && s > l.head {
		from = s
	}
	return l.read(from, l.size)
}

// resume returns the first position behind the head that is still there.
func (l *Log) resume() int64 { return max(l.head, l.size-l.ring) }

// read reads bytes that are in the file. The caller must hold the lock.
func (l *Log) read(from, to int64) ([]byte, error) {
	f := l.file
	if f == nil {
		var err error
		if f, err = os.Open(l.path); err != nil {
			return nil, fmt.Errorf("console log read: %w", err)
		}
		defer f.Close()
	}
	b := make([]byte, max(0, to-from))
	for done := int64(0); done < int64(len(b)); {
		at, room := l.place(from + done)
		n := min(room, int64(len(b))-done)
		if _, err := f.ReadAt(b[done:done+n], at); err != nil {
			return nil, fmt.Errorf("console log read: %w", err)
		}
		done += n
	}
	return b, nil
}

// Wait returns the log's length as soon as it is more than from. It returns
// ErrEnded when the console has ended before that, or the context's error.
func (l *Log) Wait(ctx context.Context, from int64) (int64, error) {
	for {
		l.mu.Lock()
		size, ended := l.size, l.ended
		if size <= from && !ended && l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		switch {
		case size > from:
			return size, nil
		case ended:
			return size, ErrEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return size, context.Cause(ctx)
		}
	}
}

// Expect waits until there is a match of p in the log, behind the match before and behind
// the last [Log.MarkBoot], and moves the position past it. When it fails, with ErrEnded
// or the context's error, the position stays.
func (l *Log) Expect(ctx context.Context, p pattern.Pattern) (*pattern.Match, error) {
	l.mu.Lock()
	next := l.search
	l.mu.Unlock()
	for {
		w, err := l.window(next, int64(p.Overlap()))
		if err != nil {
			return nil, err
		}
		// Without the lock, since it may take long.
		m, begin, err := p.Find(ctx, w.text, w.from, w.more)
		if err != nil {
			return nil, err
		}
		if m != nil {
			if l.moveSearch(w.search, w.at+int64(m.End)) {
				return m, nil
			}
			next = 0 // another caller was faster: its match is behind the new position
			continue
		}
		next = w.at + int64(begin)
		switch {
		case w.cut:
			next = w.at + int64(len(w.text)) // nothing matches across the cut
			continue
		case w.more && ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case w.more:
			continue
		}
		if _, err := l.Wait(ctx, w.at+int64(len(w.text))); err != nil {
			return nil, err
		}
	}
}

// window is a part of the log that is searched.
type window struct {
	search int64 // the position of Expect when it was read
	at     int64 // where text begins
	text   []byte
	from   int  // where in text a match may begin; before it are bytes that it may look at
	more   bool // the log goes on behind text
	cut    bool // text ends where the log was cut
}

// window returns what a search at next, or at the present position, looks at. overlap is
// how many of its last bytes are searched again with those behind them.
func (l *Log) window(next, overlap int64) (w window, err error) {
	const step = 64 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	// A reset, or a match of another caller, has moved the position on, or what was to
	// be searched is no longer there.
	next = max(next, l.search)
	resume := l.resume()
	if next >= l.head && next < resume {
		next = resume
	}
	w.at, w.search = next, l.search
	if next > l.search && (next != resume || resume == l.head) {
		w.at, w.from = next-1, 1
	}
	to := min(l.size, next+step+overlap)
	if next < l.head && to >= l.head && resume > l.head {
		w.cut, to = true, l.head
	}
	w.more = !w.cut && to < l.size
	w.text, err = l.read(w.at, to)
	return w, err
}

// moveSearch moves the position of Expect, unless that has moved since it was read.
func (l *Log) moveSearch(before, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.search != before {
		return false
	}
	l.search = now
	return true
}

// MarkBoot marks the start of a boot: output goes on after an end, and [Log.Expect]
// matches no earlier output any more.
func (l *Log) MarkBoot() {
	l.markBoot(true)
}

// MarkReboot is MarkBoot for a reboot that the guest makes by itself: [Log.Expect] still
// finds what was printed before it.
func (l *Log) MarkReboot() { l.markBoot(false) }

func (l *Log) markBoot(search bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if search {
		l.search = l.size
	}
	l.boots = append(l.boots, l.size)
	l.ended = false
	l.wake()
}

// End marks the end of output, until the next MarkBoot.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.wake()
}

// Close ends the log and closes its file, which is not removed.
func (l *Log) Close() error {
	l.End()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("console log close: %w", err)
	}
	return nil
}
