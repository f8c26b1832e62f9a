package apt

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Progress is how far a download is. The first one of a download has Began set, the last
// one Ended.
type Progress struct {
	What        string // the kernel's package
	Done, Total int64  // bytes; Total is 0 while it is not known
	Began       bool
	Ended       bool
	Err         error // why it failed
}

// progressEvery is how often the progress of a download is told.
const progressEvery = 500 * time.Millisecond

// get downloads packages into the directory and returns their paths.
func (a *apt) get(ctx context.Context, packages []string) (debs []string, err error) {
	p := Progress{What: packages[0]}
	a.progress(Progress{What: p.What, Began: true})
	files := a.files(ctx, packages)
	for _, f := range files {
		p.Total += f.size
	}
	if files == nil {
		for _, name := range packages {
			p.Total += a.size(ctx, name)
		}
	}
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.Done = a.got()
				a.progress(p)
			case <-over:
				return
			}
		}
	}()
	if files != nil {
		debs, err = a.resume(ctx, files)
	} else {
		debs, err = a.getWhole(ctx, packages)
	}
	close(over)
	<-joined
	p.Done, p.Ended, p.Err = a.got(), true, err
	a.progress(p)
	return debs, err
}

// size returns the size of a package's file, 0 if it is not known.
func (a *apt) size(ctx context.Context, name string) int64 {
	text, err := a.apt(ctx, "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if number, ok := strings.CutPrefix(strings.TrimSpace(line), "Size: "); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// got returns how many bytes of packages are in the directory, also of those that are not
// complete.
func (a *apt) got() int64 {
	var n int64
	for _, pattern := range []string{"*.deb", "*.deb.FAILED", "partial/*"} {
		files, _ := filepath.Glob(filepath.Join(a.dir, pattern))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				n += info.Size()
			}
		}
	}
	return n
}
