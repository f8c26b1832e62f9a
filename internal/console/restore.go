package console

import "fmt"

// Content returns the log as ReadAll does, and the position in it where the next
// Expect starts: what Replace needs to make an equal log.
func (l *Log) Content() (text []byte, search int64, err error) {
	if text, err = l.ReadAll(); err != nil {
		return nil, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if search = l.search; l.resume() > l.head && search > l.head {
		// Behind a cut positions no longer count the bytes that are there.
		search = int64(len(text)) - min(int64(len(text)), l.size-search)
	}
	return text, min(search, int64(len(text))), nil
}

// Replace makes text the log's whole content, with search, a position in it, as
// the place where the next Expect starts. Output goes on behind it. It must not
// be called at the same time as Write.
func (l *Log) Replace(text []byte, search int64) error {
	l.mu.Lock()
	err := l.unpark()
	if err == nil {
		err = l.file.Truncate(0)
	}
	l.size, l.search, l.ended = 0, 0, false
	l.boots = append(l.boots[:0], 0)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("console log replace: %w", err)
	}
	if _, err := l.Write(text); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.search = max(0, min(search, l.size))
	return nil
}
