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

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"

	"provium/internal/jsonerror"
)

// layoutDir is an OCI layout. Its index is replaced as a whole, under a lock, so that two
// pushes at once lose nothing and readers need no lock.
type layoutDir struct{ dir string }

const (
	refAnnotation = "org.opencontainers.image.ref.name"
	indexName     = "index.json"
	lockName      = ".provium.lock"
	layoutText    = `{"imageLayoutVersion":"1.0.0"}`
	maxIndex      = 64 << 20 // bytes
)

func (l *layoutDir) index() (*v1.IndexManifest, error) {
	f, err := os.Open(filepath.Join(l.dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		return &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
	m, err := l.index()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Annotations[refAnnotation] != tag {
			continue
		}
		r, err := l.blob(ctx, d)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return readWhole(r, d, maxManifest)
	}
	return nil, errMissing
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

func (l *layoutDir) put(_ context.Context, tag string, img v1.Image) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	if err := layout.Path(l.dir).WriteImage(img); err != nil {
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
	return errors.Join(replaceFile(filepath.Join(l.dir, "oci-layout"), []byte(layoutText)),
		replaceFile(filepath.Join(l.dir, indexName), text))
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
