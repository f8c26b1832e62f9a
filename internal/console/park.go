package console

import (
	"fmt"
	"os"
	"runtime"
)

// Park moves the file to path and closes it, so that a log which is only read now and
// then holds no descriptor. It is opened for as long as a call reads, and again by the
// next Write. The file is removed when the log is no longer used.
func (l *Log) Park(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	if path != l.path {
		if err := os.Rename(l.path, path); err != nil {
			return fmt.Errorf("console log park: %w", err)
		}
		l.path = path
		runtime.AddCleanup(l, func(path string) { _ = os.Remove(path) }, path)
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return fmt.Errorf("console log park: %w", err)
	}
	return nil
}

// unpark opens the file again. The caller must hold the lock.
func (l *Log) unpark() (err error) {
	if l.file == nil {
		l.file, err = os.OpenFile(l.path, os.O_RDWR, 0)
	}
	return err
}
