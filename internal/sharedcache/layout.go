package sharedcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"provium/internal/jsonerror"
)

// layoutDir is an OCI layout. Its index is replaced as a whole, under a lock, so that two
// pushes at once lose nothing and readers need no lock.
type layoutDir struct {
	dir string

	mu    sync.Mutex
	seen  fs.FileInfo // of the index that byTag is of
	byTag map[string]v1.Descriptor
}

const (
	refAnnotation = "org.opencontainers.image.ref.name"
	indexName     = "index.json"
	ociLayoutName = "oci-layout"
	lockName      = ".provium.lock"
	layoutText    = `{"imageLayoutVersion":"1.0.0"}`
	maxIndex      = 64 << 20 // bytes
)

func (l *layoutDir) index() (*v1.IndexManifest, error) {
	f, err := os.Open(filepath.Join(l.dir, indexName))
	if errors.Is(err, fs.ErrNotExist) { // nothing was pushed yet
		return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := os.Stat(filepath.Join(l.dir, ociLayoutName)); err != nil {
		return nil, fmt.Errorf("%s is that of something else: an OCI layout has a file `%s` beside it", f.Name(),
			ociLayoutName)
	}
	m, err := v1.ParseIndexManifest(io.LimitReader(f, maxIndex))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), jsonerror.Plain(err))
	}
	return m, nil
}

func (l *layoutDir) tags(context.Context) ([]string, error) {
	m, err := l.index()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range m.Manifests {
		out = append(out, d.Annotations[refAnnotation])
	}
	return out, nil
}

func (l *layoutDir) manifest(ctx context.Context, tag string) ([]byte, error) {
	d, found, err := l.find(tag)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errMissing
	}
	r, err := l.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readWhole(r, d, maxManifest)
}

// find returns what the index has of a tag. The index is read when it has been replaced, not for each of its tags.
func (l *layoutDir) find(tag string) (d v1.Descriptor, found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, err := os.Stat(filepath.Join(l.dir, indexName))
	if err != nil || l.seen == nil || !os.SameFile(now, l.seen) || now.Size() != l.seen.Size() ||
		!now.ModTime().Equal(l.seen.ModTime()) {
		m, err := l.index()
		if err != nil {
			return d, false, err
		}
		l.seen, l.byTag = now, map[string]v1.Descriptor{}
		for _, d := range slices.Backward(m.Manifests) { // the first counts
			l.byTag[d.Annotations[refAnnotation]] = d
		}
	}
	d, found = l.byTag[tag]
	return d, found, nil
}

func (l *layoutDir) manifestOf(ctx context.Context, digest v1.Hash) ([]byte, error) {
	d := v1.Descriptor{Digest: digest}
	r, err := l.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	info, err := r.(*os.File).Stat()
	if err != nil {
		return nil, err
	}
	d.Size = info.Size()
	return readWhole(r, d, maxManifest)
}

func (l *layoutDir) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != 64 || !filepath.IsLocal(d.Digest.Hex) {
		return nil, fmt.Errorf("`%s` is no digest", d.Digest)
	}
	return os.Open(filepath.Join(l.dir, "blobs", d.Digest.Algorithm, d.Digest.Hex))
}

func (l *layoutDir) put(ctx context.Context, tag string, img v1.Image) error {
	err := l.write(ctx, tag, img)
	if local := (*LocalError)(nil); err == nil || ctx.Err() != nil || errors.As(err, &local) {
		return err
	}
	return &AwayError{Err: fmt.Errorf("it cannot be written: %w; give a directory that this user can write to, with "+
		"room for the entries", err)}
}

func (l *layoutDir) write(ctx context.Context, tag string, img v1.Image) error {
	if _, err := l.index(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	if err := l.writeBlobs(ctx, img); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(l.dir, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	d, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	d.Annotations = map[string]string{refAnnotation: tag}
	m, err := l.index()
	if err != nil {
		return err
	}
	list := m.Manifests[:0]
	for _, old := range m.Manifests {
		if old.Annotations[refAnnotation] != tag {
			list = append(list, old)
		}
	}
	m.Manifests = append(list, *d)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return errors.Join(replaceFile(filepath.Join(l.dir, ociLayoutName), []byte(layoutText)),
		replaceFile(filepath.Join(l.dir, indexName), text))
}

// writeBlobs writes what the directory does not have of an image.
func (l *layoutDir) writeBlobs(ctx context.Context, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, layer := range layers {
		group.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			d, err := partial.Descriptor(layer)
			if err != nil {
				return err
			}
			return l.writeBlob(d, func() ([]byte, error) {
				r, err := layer.Compressed()
				if err != nil {
					return nil, err
				}
				defer r.Close()
				return io.ReadAll(r)
			})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	d, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	return errors.Join(l.writeBlob(&m.Config, img.RawConfigFile), l.writeBlob(d, img.RawManifest))
}

// writeBlob writes a blob as a whole, unless the directory has it.
func (l *layoutDir) writeBlob(d *v1.Descriptor, content func() ([]byte, error)) error {
	path := filepath.Join(l.dir, "blobs", d.Digest.Algorithm, d.Digest.Hex)
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() == d.Size {
		return nil
	}
	text, err := content()
	if err != nil {
		return err
	}
	return replaceFile(path, text)
}

// replaceFile writes a whole file, or leaves the one before.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
