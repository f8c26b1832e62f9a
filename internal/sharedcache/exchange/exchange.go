// Package exchange moves entries between the caches of a user and a shared cache: booted guests,
// fixtures, kernels, initrds and userlands, and what is known of test files.
//
// What is brought is verified as an entry of its cache before it gets its name there. The
// package does not know how a shared cache keeps entries (internal/sharedcache), nor when one
// is of use: that the local caches know by their keys.
//
// Start reading at Locals.Push and Locals.Pull.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/fixture"
	"provium/internal/image/cache"
	"provium/internal/sharedcache"
	"provium/internal/snapshot"
)

// Locals are the caches of a user.
type Locals struct {
	Boots    *snapshot.Cache
	Fixtures *fixture.Cache
	Images   *cache.Cache    // with the kinds that are shared
	History  string          // the file of package history; "" for none
	Fit      sharedcache.Fit // what this machine is
}

// Result says what became of an entry.
type Result struct {
	sharedcache.Header
	// Moved says that it was stored or brought; else it was there already.
	Moved bool
	// Unfit is why it is of no use here, "" if it is.
	Unfit string
	// Err is why it was not moved; the others were tried nevertheless.
	Err error
}

// bootName is the name of the only file of a booted guest.
const bootName = "snapshot"

// entries returns all that the local caches have.
func (l *Locals) entries() ([]sharedcache.Local, error) {
	out, err := l.bootEntries()
	if err != nil {
		return nil, err
	}
	fixtures, err := l.Fixtures.List()
	if err != nil {
		return nil, err
	}
	for _, f := range fixtures {
		if f.Name == "" { // its record cannot be read
			continue
		}
		out = append(out, sharedcache.Local{
			Header: sharedcache.Header{Kind: sharedcache.Fixture, Key: f.Key, Note: f.Name,
				Fit: sharedcache.Fit{Form: l.Fit.Form, Arch: l.Fit.Arch}},
			Paths: l.Fixtures.Paths(f.Key, f.Kind),
		})
	}
	images, err := l.Images.Entries()
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		key := i.Kind + "/" + filepath.Base(i.Path)
		if _, _, ok := imageKey(l.Images.Kinds, key); !ok {
			continue
		}
		out = append(out, sharedcache.Local{
			Header: sharedcache.Header{Kind: sharedcache.Image, Key: key, Note: i.Kind},
			Paths:  map[string]string{".": i.Path},
		})
	}
	return out, nil
}

func (l *Locals) bootEntries() ([]sharedcache.Local, error) {
	boots, err := l.Boots.List()
	if err != nil {
		return nil, err
	}
	var out []sharedcache.Local
	for _, b := range boots {
		if b.Manifest == nil || b.Manifest.Key != b.Key || b.Manifest.Base != nil {
			continue
		}
		m := b.Manifest.Machine
		out = append(out, sharedcache.Local{
			Header: sharedcache.Header{Kind: sharedcache.Boot, Key: b.Key,
				Note: strings.TrimSpace(b.Manifest.Guest.Profile + " " + b.Manifest.Guest.Kernel),
				Fit:  sharedcache.Fit{Form: l.Fit.Form, Arch: l.Fit.Arch, QEMU: m.QEMU, Accel: m.Accel, CPU: m.CPU}},
			Paths: map[string]string{bootName: l.Boots.Path(b.Key)},
		})
	}
	return out, nil
}

// Push stores what is in the local caches. tell is called for each entry. The error is that of
// the shared cache as a whole.
func (l *Locals) Push(ctx context.Context, to *sharedcache.Cache, tell func(Result)) error {
	all, err := l.entries()
	if err != nil {
		return err
	}
	for _, e := range all {
		stored, err := to.Push(ctx, e)
		if err := end(ctx, err); err != nil {
			return err
		}
		if local := (*sharedcache.LocalError)(nil); errors.As(err, &local) && errors.Is(local, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		tell(Result{Header: e.Header, Moved: stored, Err: err})
	}
	if r, any := l.pushHistory(ctx, to); any {
		if err := end(ctx, r.Err); err != nil {
			return err
		}
		tell(r)
	}
	return nil
}

// end returns the error for which nothing more is tried after err: the end of ctx, or a registry that is away.
func end(ctx context.Context, err error) error {
	var away *sharedcache.AwayError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &away):
		return err
	}
	return nil
}

// Temp are directories for files that are not verified yet, each on the file system of its cache.
type Temp struct{ Boots, Fixtures string }

// Pull brings what a shared cache has and the local ones do not, by way of temporary files.
// tell is called for each entry.
func (l *Locals) Pull(ctx context.Context, from *sharedcache.Cache, temp Temp, tell func(Result)) error {
	all, err := from.List(ctx, func(err error) { tell(Result{Err: err}) })
	if err != nil {
		return err
	}
	for i := range all {
		r := Result{Header: all[i].Header, Unfit: all[i].Fit.Differs(l.Fit)}
		switch {
		case r.Kind == sharedcache.History:
			r.Moved, r.Err = l.bringHistory(ctx, from, &all[i])
		case r.Unfit == "" && !l.has(&all[i]):
			r.Err = l.bring(ctx, from, &all[i], temp)
			r.Moved = r.Err == nil
		}
		if err := end(ctx, r.Err); err != nil {
			return err
		}
		tell(r)
	}
	return nil
}

// has reports whether the local caches have an entry, which may be damaged.
func (l *Locals) has(e *sharedcache.Entry) bool {
	switch e.Kind {
	case sharedcache.Boot:
		return l.Boots.Has(e.Key)
	case sharedcache.Fixture:
		return l.Fixtures.Has(e.Key)
	}
	_, err := os.Stat(filepath.Join(l.Images.Dir, filepath.FromSlash(e.Key)))
	return err == nil
}

// bring fetches an entry and puts it into its cache.
func (l *Locals) bring(ctx context.Context, from *sharedcache.Cache, e *sharedcache.Entry, temp Temp) error {
	if e.Kind == sharedcache.Image {
		return l.bringImage(ctx, from, e)
	}
	dir := temp.Boots
	if e.Kind == sharedcache.Fixture {
		dir = temp.Fixtures
	}
	tmp, err := os.MkdirTemp(dir, "entry-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := pullFiles(ctx, from, e, tmp); err != nil {
		return err
	}
	if e.Kind == sharedcache.Fixture {
		if err := l.Fixtures.Adopt(e.Key, tmp); err != nil {
			return fmt.Errorf("fixture `%s`: %w", e.Key, err)
		}
		return nil
	}
	if err := l.Boots.Adopt(ctx, e.Key, filepath.Join(tmp, bootName)); err != nil {
		return fmt.Errorf("boot `%s`: %w", e.Key, err)
	}
	return nil
}

// pullFiles is Pull for entries that have no links, which would lead the one who verifies them to other files.
func pullFiles(ctx context.Context, from *sharedcache.Cache, e *sharedcache.Entry, dir string) error {
	if err := from.Pull(ctx, e, dir); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			err = fmt.Errorf("shared cache `%s`: %s `%s`: its file `%s` is a link", from, e.Kind, e.Key, d.Name())
		}
		return err
	})
}

func (l *Locals) bringImage(ctx context.Context, from *sharedcache.Cache, e *sharedcache.Entry) error {
	kind, name, ok := imageKey(l.Images.Kinds, e.Key)
	if !ok {
		return fmt.Errorf("image `%.80s`: no cache here has such entries", e.Key)
	}
	got, err := l.Images.Install(ctx, kind, func(dir string) (string, error) { return name, from.Pull(ctx, e, dir) })
	if err != nil {
		return err
	}
	if filepath.Base(got) != filepath.Base(filepath.FromSlash(e.Key)) {
		return errors.Join(fmt.Errorf("image `%s`: its files are not those of its name", e.Key), os.RemoveAll(got))
	}
	return nil
}

// imageKey splits KIND/NAME@DIGEST, the key of an image.
func imageKey(kinds []string, key string) (kind, name string, ok bool) {
	kind, file, _ := strings.Cut(key, "/")
	name, digest, found := strings.Cut(file, "@")
	ok = found && slices.Contains(kinds, kind) && name != "" && digest != "" && name[0] != '.' &&
		!strings.ContainsAny(file, "/\x00")
	return kind, name, ok
}
