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
	path, isLayout := strings.CutPrefix(ref, layoutScheme)
	if isLayout || strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, ".") {
		if err := checkLayoutPath(path); isLayout && err != nil {
			return nil, fmt.Errorf("shared cache `%s`: %w", ref, err)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return nil, fmt.Errorf("shared cache `%s`: it is not a directory", ref)
		}
		return &Cache{ref, &layoutDir{dir: filepath.Clean(path)}}, nil
	}
	r, err := parseName(strings.TrimPrefix(ref, registryScheme))
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

// parseName reads the name of something in a registry, HOST/NAME[:TAG] or HOST/NAME@DIGEST.
func parseName(text string) (name.Reference, error) {
	host, rest, _ := strings.Cut(text, "/")
	switch scheme, address, found := strings.Cut(text, "://"); {
	case text == "":
		return nil, errors.New("it is empty")
	case found && (scheme == "http" || scheme == "https"):
		return nil, fmt.Errorf("give the registry without `%s://`, as in `%s`", scheme, address)
	case found:
		return nil, fmt.Errorf("unknown scheme `%s://`", scheme)
	case rest == "" && strings.ContainsAny(host, ".:"):
		return nil, fmt.Errorf("the name behind the host is missing, as in `%s/cache`", host)
	case rest == "": // for Docker, a name in its own registry that nobody else can write to
		return nil, fmt.Errorf("it names no host, as `registry.example/%s` does; a directory is `oci:%s`", text, text)
	case strings.HasSuffix(host, ":"):
		return nil, fmt.Errorf("`%s` is neither a host nor `%s`", host, layoutScheme)
	}
	r, err := name.ParseReference(text)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// checkLayoutPath reports what is wrong with the text behind `oci:`.
func checkLayoutPath(path string) error {
	switch {
	case path == "":
		return errors.New("the directory is missing, as in `oci:DIR`")
	case strings.HasPrefix(path, "//"): // for helm, a registry; for us, the directory /…
		return fmt.Errorf("`oci://` may mean two things: give `%s` for a registry, or `oci:/DIR` for a directory",
			strings.TrimLeft(path, "/"))
	}
	return nil
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
