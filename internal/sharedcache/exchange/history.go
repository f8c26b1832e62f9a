package exchange

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"provium/internal/history"
	"provium/internal/sharedcache"
)

// historyName is the name of the only file of a history.
const historyName = "history.json"

// pushHistory stores what is known of test files here together with what was stored before: every machine of a run
// that is split knows other files.
func (l *Locals) pushHistory(ctx context.Context, to *sharedcache.Cache) (r Result, any bool) {
	mine := history.Read(l.History)
	if len(mine) == 0 {
		return r, false
	}
	r.Header = sharedcache.Header{Kind: sharedcache.History, Key: sharedcache.HistoryKey}
	r.Err = inTemp(l.History, func(dir string) error {
		theirs := history.History{}
		// One that is damaged is replaced.
		if e, err := to.Find(ctx, r.Kind, r.Key); err == nil && e != nil {
			theirs, _ = fetchHistory(ctx, to, e, dir)
		}
		all := theirs.With(mine)
		r.Note = fmt.Sprintf("durations of %d test files", len(all))
		path := filepath.Join(dir, historyName)
		err := history.Write(path, all)
		if err == nil {
			paths := map[string]string{historyName: path}
			r.Moved, err = to.Push(ctx, sharedcache.Local{Header: r.Header, Paths: paths})
		}
		return err
	})
	return r, true
}

// bringHistory adds what is known of test files elsewhere, and reports whether there was something new.
func (l *Locals) bringHistory(ctx context.Context, from *sharedcache.Cache, e *sharedcache.Entry) (brought bool,
	err error) {
	if l.History == "" {
		return false, nil
	}
	err = inTemp(l.History, func(dir string) error {
		theirs, err := fetchHistory(ctx, from, e, dir)
		if err != nil {
			return err
		}
		mine := history.Read(l.History)
		all := theirs.With(mine)
		if brought = len(all) > len(mine); !brought {
			return nil
		}
		return history.Write(l.History, all)
	})
	return brought, err
}

// inTemp calls do with a temporary directory beside a file.
func inTemp(path string, do func(dir string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".history-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return do(dir)
}

// fetchHistory returns a history of a shared cache.
func fetchHistory(ctx context.Context, from *sharedcache.Cache, e *sharedcache.Entry, dir string) (history.History,
	error) {
	if e.Size > history.MaxBytes {
		return history.History{}, fmt.Errorf("shared cache `%s`: the history has %d bytes", from, e.Size)
	}
	to := filepath.Join(dir, "fetched")
	if err := os.Mkdir(to, 0o700); err != nil {
		return history.History{}, err
	}
	if err := pullFiles(ctx, from, e, to); err != nil {
		return history.History{}, err
	}
	return history.Read(filepath.Join(to, historyName)), nil
}
