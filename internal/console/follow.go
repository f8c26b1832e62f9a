package console

import (
	"context"
	"fmt"
)

// Boot returns the number of the present boot: how often MarkBoot was called.
func (l *Log) Boot() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.boots)
}

// BootStart returns the position where a boot's output begins.
func (l *Log) BootStart(boot int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bootStart(boot)
}

// bootStart is BootStart for a caller that holds the lock.
func (l *Log) bootStart(boot int) int64 {
	if boot < 1 || boot > len(l.boots) {
		return 0
	}
	return l.boots[boot-1]
}

// limit returns where a boot's output ends, and whether nothing will follow it. The
// caller must hold the lock.
func (l *Log) limit(boot int) (end int64, over bool) {
	if boot < len(l.boots) {
		return l.boots[boot], true
	}
	return l.size, l.ended
}

// Next returns up to limit bytes of a boot's output from a position on and the
// position behind them, waiting for something. Bytes that were cut are
// replaced by a line that says how many. It returns ErrEnded at the end of the
// boot, or the context's cause.
func (l *Log) Next(ctx context.Context, boot int, from int64, limit int) ([]byte, int64, error) {
	for {
		l.mu.Lock()
		end, over := l.limit(boot)
		if from < end {
			p, next, err := l.piece(from, min(end, from+int64(limit)))
			l.mu.Unlock()
			return p, next, err
		}
		if !over && l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if over {
			return nil, from, ErrEnded
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, from, context.Cause(ctx)
		}
	}
}

// piece reads what is in the file in one piece, or a line about missing bytes. The caller
// must hold the lock.
func (l *Log) piece(from, to int64) ([]byte, int64, error) {
	switch start := l.resume(); {
	case from < l.head:
		if start > l.head {
			to = min(to, l.head)
		}
	case from < start:
		return []byte(fmt.Sprintf("\n[... %d bytes of console output cut ...]\n", start-from)), start, nil
	}
	b, err := l.read(from, to)
	return b, to, err
}

// Exhausted reports whether a boot has ended and nothing of it lies behind a
// position.
func (l *Log) Exhausted(boot int, from int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	end, over := l.limit(boot)
	return over && from >= end
}
