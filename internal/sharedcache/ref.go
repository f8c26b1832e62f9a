package sharedcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Cache is a shared cache. It is safe for concurrent use, also by other processes.
type Cache struct {
	ref string
	at  place
}

// place is where images are kept.
type place interface {
	// tags returns all tags.
	tags(ctx context.Context) ([]string, error)
	// manifest returns the text of a tag's manifest; errMissing if there is no such tag.
	manifest(ctx context.Context, tag string) ([]byte, error)
	// manifestOf returns the text of the manifest that has a digest, verified.
	manifestOf(ctx context.Context, digest v1.Hash) ([]byte, error)
	// blob returns what has a digest. Who reads it verifies it.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// put stores an image under a tag, with its blobs first.
	put(ctx context.Context, tag string, img v1.Image) error
}

// errMissing is returned for a tag that does not exist.
var errMissing = errors.New("there is no such entry")

// DefaultSilence is how long a registry may send nothing before it counts as away.
const DefaultSilence = 15 * time.Second

// Open returns the cache that ref names: `docker://HOST/NAME[:TAG]`, the same without
// `docker://`, `oci:DIR`, or the path of a directory, which begins with `/` or a dot. Relative
// paths are of dir. Nothing is asked or written yet. silence is how long a registry may send
// nothing; 0 is DefaultSilence.
func Open(ref, dir string, silence time.Duration) (*Cache, error) {
	if silence == 0 {
		silence = DefaultSilence
	}
	path, isLayout := strings.CutPrefix(ref, "oci:")
	if isLayout || strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") {
		if path == "" {
			return nil, fmt.Errorf("shared cache `%s`: the directory is missing, as in `oci:DIR`", ref)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return nil, fmt.Errorf("shared cache `%s`: it is not a directory", ref)
		}
		return &Cache{ref, &layoutDir{filepath.Clean(path)}}, nil
	}
	text := strings.TrimPrefix(ref, "docker://")
	r, err := name.ParseReference(text)
	if err == nil && strings.Contains(text, "://") {
		err = errors.New("unknown scheme")
	}
	if err != nil {
		return nil, fmt.Errorf("shared cache `%s`: it is neither `HOST/NAME[:TAG]` nor `oci:DIR`: %w", ref, err)
	}
	t, ok := r.(name.Tag)
	if !ok {
		return nil, fmt.Errorf("shared cache `%s`: it has a digest, and a cache changes; give `HOST/NAME[:TAG]`", ref)
	}
	if len(t.TagStr()) > 60 {
		return nil, fmt.Errorf("shared cache `%s`: the tag is longer than 60 characters", ref)
	}
	p, err := newRegistry(t.Context(), t.TagStr()+".", silence)
	if err != nil {
		return nil, fmt.Errorf("shared cache `%s`: %w", ref, err)
	}
	return &Cache{ref, p}, nil
}

// String is the reference that the cache was opened by.
func (c *Cache) String() string { return c.ref }

// fail returns an error of the cache with its name.
func (c *Cache) fail(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("shared cache `%s`: %w", c.ref, err)
}

// Entry is an entry of a shared cache.
type Entry struct {
	Header
	Packed int64 // bytes of its chunks as they are stored

	manifest *v1.Manifest
	tag      string
}

// List returns all entries by tag. bad is called for each that cannot be read.
func (c *Cache) List(ctx context.Context, bad func(error)) ([]Entry, error) {
	tags, err := c.at.tags(ctx)
	if err != nil {
		return nil, c.fail(err)
	}
	var out []Entry
	for _, t := range tags {
		e, err := c.look(ctx, t)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, errMissing): // removed meanwhile
		case err != nil:
			bad(c.fail(fmt.Errorf("entry `%s`: %w", t, err)))
		default:
			out = append(out, *e)
		}
	}
	return out, nil
}

// Find returns an entry by its name; nil if there is no such entry.
func (c *Cache) Find(ctx context.Context, kind Kind, key string) (*Entry, error) {
	e, err := c.look(ctx, tag(kind, key))
	if errors.Is(err, errMissing) {
		return nil, nil
	}
	return e, c.fail(err)
}

func (c *Cache) look(ctx context.Context, t string) (*Entry, error) {
	text, err := c.at.manifest(ctx, t)
	if err != nil {
		return nil, err
	}
	m, h, err := decodeManifest(text)
	if err != nil {
		return nil, err
	}
	if tag(h.Kind, h.Key) != t {
		return nil, fmt.Errorf("it is the entry of `%s`", h.Key)
	}
	e := &Entry{Header: h, manifest: m, tag: t}
	for _, l := range m.Layers {
		e.Packed += l.Size
	}
	return e, nil
}
