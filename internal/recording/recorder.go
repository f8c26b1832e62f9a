package recording

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"provium/internal/qmp"
)

// Counter counts what a guest has carried out.
type Counter interface {
	Icount(ctx context.Context) (int64, error)
}

// Recorder writes down moments of one recorded guest. It is safe for concurrent use.
type Recorder struct {
	Machine Counter

	ending sync.Once
	mu     sync.Mutex
	points []Point
	end    int64 // 0 until then
	broken error // why the log cannot be run again
}

// endLimit is how long QEMU may take to finish a log.
const endLimit = 5 * time.Second

// Icount returns how many instructions a guest that is recorded, or run again, has carried out.
func Icount(ctx context.Context, monitor *qmp.Client) (int64, error) {
	var r struct {
		Icount int64 `json:"icount"`
	}
	err := monitor.Execute(ctx, "query-replay", nil, &r)
	return r.Icount, err
}

// Mark makes the present moment one to which a debugger can go.
func (r *Recorder) Mark(ctx context.Context, p Point) (err error) {
	if p.At, err = r.Machine.Icount(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.points) >= maxPoints {
		r.points = slices.Delete(r.points, 0, 1)
	}
	r.points = append(r.points, p)
	return nil
}

// Break records why the log cannot be run again.
func (r *Recorder) Break(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = why
	}
}

// End has QEMU finish its log, and end, or kills it if it does not. done is closed when it has ended. It returns at
// once, and reports whether QEMU will end.
func (r *Recorder) End(monitor *qmp.Client, done <-chan struct{}, kill func()) bool {
	r.ending.Do(func() {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), endLimit)
			defer cancel()
			n, err := Icount(ctx, monitor)
			r.mu.Lock()
			r.end = n
			r.mu.Unlock()
			if err == nil {
				_ = monitor.Execute(ctx, "quit", nil, nil) // it may end before it answers
			}
			select {
			case <-done:
			case <-ctx.Done():
				r.Break(errors.New("QEMU did not finish its log in time"))
				kill()
			}
		}()
	})
	return true
}

// Complete returns m with what the recorder knows, or why the log cannot be run again.
func (r *Recorder) Complete(m Manifest) (Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Format, m.End, m.Points = format, r.end, slices.Clone(r.points)
	if r.broken == nil && r.end == 0 {
		return m, errors.New("QEMU has ended without finishing its log")
	}
	return m, r.broken
}
