package preparation

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"provium/internal/event"
	"provium/internal/image"
	"provium/internal/luascan"
	"provium/internal/script/fixtures"
	"provium/internal/userland"
)

// File is what the source of a test file shows that it needs.
type File struct {
	Profiles []string // of VMs that it declares
	Fixtures []string
}

// Needed returns the names of the profiles that the files boot, as far as their sources and
// those of their fixtures show that, sorted. Some may not be in the configuration.
func Needed(roots []string, files []File) []string {
	var profiles []string
	seen := map[string]bool{}
	for len(files) > 0 {
		f := files[0]
		files = files[1:]
		profiles = append(profiles, f.Profiles...)
		for _, name := range f.Fixtures {
			s, _, err := fixtures.Find(roots, name)
			if err != nil || seen[s.Path] { // the file that wants it says what is wrong
				continue
			}
			seen[s.Path] = true
			refs, more, _ := luascan.Literals(readSource(s.Path))
			files = append(files, File{more, refs})
		}
	}
	slices.Sort(profiles)
	return slices.Compact(profiles)
}

// maxSource is how much of a fixture's source is read, in bytes.
const maxSource = 4 << 20

func readSource(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, maxSource))
	return text
}

// Resolver finds or makes what a profile boots from.
type Resolver interface {
	Resolve(context.Context, image.Spec) (*image.Image, error)
}

// Images resolves what profiles boot from, so that kernels are downloaded and unpacked before
// any guest boots. It fails only if there is no kernel to boot: whatever else is wrong with a
// profile is an error of the boot, which a test may expect. It returns the userlands that
// were made, by profile: all guests of a run have them as they are now.
func Images(ctx context.Context, images Resolver, specs []image.Spec) (map[string]*userland.Userland, error) {
	made := map[string]*userland.Userland{}
	for _, spec := range specs {
		img, err := images.Resolve(ctx, spec)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if missing := (*image.NoKernelError)(nil); errors.As(err, &missing) {
			return nil, err
		}
		if err == nil && img != nil && img.Userland != nil {
			made[spec.Profile] = img.Userland
		}
	}
	return made, nil
}

// DownloadEvents returns what emits the progress of downloads. One downloads at a time.
func DownloadEvents(emit func(event.Event)) func(image.Download) {
	var started time.Time
	return func(d image.Download) {
		switch {
		case d.Ended:
			done := event.DownloadDone{What: d.What, DurationNS: uint64(time.Since(started))}
			if d.Err != nil {
				done.Error = d.Err.Error()
			}
			emit(event.DownloadProgress{What: d.What, DoneBytes: uint64(d.Done), TotalBytes: uint64(d.Total)})
			emit(done)
		case d.Began:
			started = time.Now()
			emit(event.DownloadStarted{What: d.What})
		default:
			emit(event.DownloadProgress{What: d.What, DoneBytes: uint64(d.Done), TotalBytes: uint64(d.Total)})
		}
	}
}
