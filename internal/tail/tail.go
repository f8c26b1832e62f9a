// Package tail keeps the end of what a program prints, for the error that says why it ended.
//
// It reads nothing by itself. Start with Buffer.
package tail

import (
	"bytes"
	"sync"
)

// Buffer keeps the last bytes that were written to it. It is safe for concurrent use.
type Buffer struct {
	Limit int // of what is kept, in bytes

	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Write(p)
	if over := b.buf.Len() - b.Limit; over > 0 {
		b.buf.Next(over)
	}
	return len(p), nil
}

// String returns what is kept.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
