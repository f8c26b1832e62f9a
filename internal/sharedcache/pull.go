package sharedcache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// parallelBlobs is how many chunks are fetched at a time.
const parallelBlobs = 6

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// readWhole reads what a descriptor names, and verifies it.
func readWhole(r io.Reader, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes", d.Digest, d.Size)
	}
	b, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); int64(len(b)) != d.Size || hex.EncodeToString(sum[:]) != d.Digest.Hex {
		return nil, &DamagedError{d.Digest.String()}
	}
	return b, nil
}

// DamagedError is returned for a blob that is not what its digest says.
type DamagedError struct{ Digest string }

// Error names the digest.
func (e *DamagedError) Error() string { return fmt.Sprintf("blob %s is damaged", e.Digest) }

// Pull writes the files of an entry below dir, an empty directory. After an error there may be
// some of them.
func (c *Cache) Pull(ctx context.Context, e *Entry, dir string) error {
	if err := c.pull(ctx, e, dir); err != nil {
		return c.fail(fmt.Errorf("%s `%.200s`: %w", e.Kind, e.Key, err))
	}
	return nil
}

func (c *Cache) pull(ctx context.Context, e *Entry, dir string) error {
	text, err := c.fetch(ctx, e.manifest.Config, maxConfig)
	if err != nil {
		return err
	}
	what, err := decodeContent(text, len(e.manifest.Layers))
	if err != nil {
		return err
	}
	if what.Header != e.Header {
		return errors.New("its description is that of another entry")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := makeFiles(root, what.Files); err != nil {
		return err
	}
	w := &streamWriter{root: root, files: regular(what.Files)}
	defer w.close()
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(2*ChunkSize))
	if err != nil {
		return err
	}
	defer dec.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelBlobs)
	for i, k := range what.Chunks {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			b, err := c.chunk(ctx, dec, e.manifest.Layers[i], k)
			if err != nil {
				return err
			}
			return w.write(k.At, b)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	// Last, so that nothing is written through them.
	for _, f := range what.Files {
		if fs.FileMode(f.Mode).Type() == fs.ModeSymlink {
			if err := root.Symlink(f.Link, filepath.FromSlash(f.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cache) fetch(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	r, err := c.at.blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readWhole(r, d, limit)
}

// chunk fetches and verifies a chunk.
func (c *Cache) chunk(ctx context.Context, dec *zstd.Decoder, d v1.Descriptor, k chunk) ([]byte, error) {
	z, err := c.fetch(ctx, d, maxPacked)
	if err != nil {
		return nil, err
	}
	b, err := unpack(dec, z, k)
	if err != nil {
		return nil, &DamagedError{d.Digest.String()}
	}
	return b, nil
}

// unpack decompresses and verifies a chunk, which may claim any size.
func unpack(dec *zstd.Decoder, z []byte, k chunk) ([]byte, error) {
	b, err := dec.DecodeAll(z, make([]byte, 0, k.Length))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); int64(len(b)) != k.Length || hex.EncodeToString(sum[:]) != k.Sum {
		return nil, errors.New("it has another content")
	}
	return b, nil
}

// makeFiles makes directories and files of their sizes, all holes.
func makeFiles(root *os.Root, files []file) error {
	for _, f := range files {
		name, mode := filepath.FromSlash(f.Name), fs.FileMode(f.Mode)
		switch mode.Type() {
		case fs.ModeDir:
			if err := root.Mkdir(name, 0o755); err != nil {
				return err
			}
		case 0:
			out, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm()&0o755|0o600)
			if err != nil {
				return err
			}
			if err := errors.Join(out.Truncate(f.Size), out.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func regular(files []file) (out []file) {
	for _, f := range files {
		if fs.FileMode(f.Mode).Type() == 0 && f.Size > 0 {
			out = append(out, f)
		}
	}
	return out
}

// streamWriter writes parts of the stream to the files that they belong to. It is safe for
// concurrent use.
type streamWriter struct {
	root  *os.Root
	files []file // in the order of the stream, none of them empty

	mu   sync.Mutex
	last *os.File // the file that was written to last
	name string
}

func (w *streamWriter) write(at int64, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, _ := slices.BinarySearchFunc(w.files, at, func(f file, at int64) int {
		if f.At+f.Size <= at {
			return -1
		}
		return 1
	})
	for ; len(b) > 0 && i < len(w.files); i++ {
		f := w.files[i]
		if gap := f.At - at; gap > 0 { // between files
			gap = min(gap, int64(len(b)))
			at, b = at+gap, b[gap:]
		}
		n := min(int64(len(b)), f.At+f.Size-at)
		if n <= 0 {
			break
		}
		if w.name != f.Name || w.last == nil {
			w.closeLast()
			out, err := w.root.OpenFile(filepath.FromSlash(f.Name), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			w.last, w.name = out, f.Name
		}
		if _, err := w.last.WriteAt(b[:n], at-f.At); err != nil {
			return err
		}
		at, b = at+n, b[n:]
	}
	return nil
}

func (w *streamWriter) closeLast() {
	if w.last != nil {
		_ = w.last.Close() // the local cache verifies what was written
		w.last = nil
	}
}

func (w *streamWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeLast()
}
