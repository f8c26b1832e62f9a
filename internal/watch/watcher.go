package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing may change before what has changed is told: an editor writes
	// a file in several steps.
	quiet = 50 * time.Millisecond
	// mostDelay is how long changes are held back at most.
	mostDelay = 300 * time.Millisecond
)

// Watcher notices changes of files, soon after they are made. Its methods may be called from
// one goroutine at a time.
type Watcher struct {
	notify  *fsnotify.Watcher
	changes chan []string
	errs    chan error
	ended   chan struct{}
}

// Open returns a watcher of nothing. The caller must call Close.
func Open() (*Watcher, error) {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watcher{notify: n, changes: make(chan []string), errs: make(chan error, 1), ended: make(chan struct{})}
	go w.collect()
	return w, nil
}

// Changes returns the files that have changed, come or gone, by canonical paths, in batches.
// What changes while no batch is taken is in the next one.
func (w *Watcher) Changes() <-chan []string { return w.changes }

// Errors returns failures to notice changes, such as a full queue of the kernel. One that
// nobody takes hides those that follow.
func (w *Watcher) Errors() <-chan error { return w.errs }

// Tree watches a directory with all that is below it, except hidden directories. One that is
// watched already is no error.
func (w *Watcher) Tree(dir string) error {
	_, err := w.add(dir)
	return err
}

// add watches a tree and returns the files in it.
func (w *Watcher) add(dir string) (files []string, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	err = filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == real:
			return err
		case err != nil:
			return nil // removed meanwhile, or not for us
		case !d.IsDir():
			files = append(files, path)
			return nil
		case path != real && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		}
		if err := w.notify.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return files, fmt.Errorf("watch `%s`: %w", dir, err)
	}
	return files, nil
}

// File watches a file, which need not be there, or a directory with all that is below it.
// Without the directory that it is in, a file is not watched.
func (w *Watcher) File(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return w.Tree(path)
	}
	dir := filepath.Dir(canonical(path))
	if slices.Contains(w.notify.WatchList(), dir) {
		return nil
	}
	if err := w.notify.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("watch `%s`: %w", path, err)
	}
	return nil
}

// collect makes batches of events until Close.
func (w *Watcher) collect() {
	defer close(w.ended)
	changed := map[string]bool{}
	var first, last time.Time
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var out chan []string
	var batch []string
	for {
		select {
		case e, ok := <-w.notify.Events:
			if !ok {
				return
			}
			if e.Op == fsnotify.Chmod {
				break
			}
			now := time.Now()
			if len(changed) == 0 {
				first = now
			}
			last = now
			changed[e.Name] = true
			w.entered(e, changed)
			timer.Reset(min(quiet, max(0, mostDelay-last.Sub(first))))
		case <-timer.C:
			batch = slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(batch, maps.Keys(changed)))))
			clear(changed)
			out = w.changes
		case out <- batch:
			out, batch = nil, nil
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
			w.tell(err)
		}
	}
}

// entered watches a directory that has come, with what is in it.
func (w *Watcher) entered(e fsnotify.Event, changed map[string]bool) {
	if !e.Has(fsnotify.Create) || strings.HasPrefix(filepath.Base(e.Name), ".") {
		return
	}
	if info, err := os.Lstat(e.Name); err != nil || !info.IsDir() {
		return
	}
	files, err := w.add(e.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.tell(err)
	}
	for _, file := range files {
		changed[file] = true
	}
}

func (w *Watcher) tell(err error) {
	select {
	case w.errs <- err:
	default: // an earlier one was not taken
	}
}

// Close ends the watcher.
func (w *Watcher) Close() {
	_ = w.notify.Close()
	<-w.ended
}
