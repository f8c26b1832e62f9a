package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"

	"golang.org/x/sys/unix"

	"provium/internal/fixture"
	"provium/internal/image"
	"provium/internal/snapshot"
)

// A disk may lose bits of a file without a trace in its times. So each run reads one
// cached file through, chosen by chance, beside the tests.

// spotCheckPriority is that of the thread that reads.
const spotCheckPriority = 10

// startSpotCheck begins to check one entry of one of the caches. A damaged one is removed,
// with a warning. over is closed at the end; stop ends it early, and waits for that.
func (o *Options) startSpotCheck(ctx context.Context) (over <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread ends with the goroutine, since it stays locked to it.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), spotCheckPriority)
		entries := o.cachedEntries()
		if len(entries) == 0 {
			return
		}
		if err := entries[rand.IntN(len(entries))](ctx); err != nil {
			fmt.Fprintf(o.Stderr, "provium: a cached file was damaged, and is removed: %v\n", err)
		}
	}()
	return done, func() {
		cancel()
		<-done
	}
}

// cachedEntries returns a function for each entry of the caches that checks it.
func (o *Options) cachedEntries() (checks []func(context.Context) error) {
	// What cannot be listed is reported by those who need it.
	if images, err := image.NewStore(image.Config{CacheDir: o.ImageCache}); err == nil {
		list, _ := images.Entries()
		for _, e := range list {
			checks = append(checks, func(ctx context.Context) error { return images.Check(ctx, e) })
		}
	}
	if o.BootCache != "" {
		boots := snapshot.Cache{Dir: o.BootCache}
		keys, _ := boots.Keys()
		for _, key := range keys {
			checks = append(checks, func(ctx context.Context) error { return boots.Check(ctx, key) })
		}
	}
	fixtures := fixture.Cache{Dir: o.Config.CacheDir}
	list, _ := fixtures.List()
	for _, e := range list {
		checks = append(checks, func(ctx context.Context) error { return fixtures.Check(ctx, e.Key) })
	}
	return checks
}
