package sharedcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Local is an entry of a local cache.
type Local struct {
	Header
	Paths map[string]string // files and directories by their names in the entry
}

// LocalError is returned for files of an entry of a local cache that cannot be read or stored, as when the entry was
// removed meanwhile.
type LocalError struct{ Err error }

// Error is the reason.
func (e *LocalError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *LocalError) Unwrap() error { return e.Err }

// Push stores an entry, unless one of its key and contents is there. It reports whether it has
// stored it.
func (c *Cache) Push(ctx context.Context, l Local) (stored bool, err error) {
	img, err := pack(ctx, l)
	if err != nil {
		return false, fmt.Errorf("%s `%s`: %w", l.Kind, l.Key, &LocalError{err})
	}
	t := tag(l.Kind, l.Key)
	if text, err := c.at.manifest(ctx, t); err == nil && bytes.Equal(text, img.manifest) {
		return false, nil
	}
	whole, err := partial.CompressedToImage(img)
	if err == nil {
		err = c.at.put(ctx, t, whole)
	}
	return err == nil, c.fail(err)
}

// packed is the image of an entry. Its chunks are compressed again when they are needed, so
// that it needs little memory.
type packed struct {
	config, manifest []byte
	parts            map[v1.Hash]part
}

// part is a chunk in a file.
type part struct {
	path   string
	at     int64
	length int64
	desc   v1.Descriptor
}

// encoder returns an encoder whose output depends on its input alone.
func encoder() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) }

// pack reads the files of an entry.
func pack(ctx context.Context, l Local) (*packed, error) {
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	p := &packer{ctx: ctx, enc: enc, parts: map[v1.Hash]part{}, manifest: v1.Manifest{SchemaVersion: 2,
		MediaType: types.OCIManifestSchema1}, content: content{Version: formatVersion}}
	for _, name := range sortedNames(l.Paths) {
		if err := p.tree(name, l.Paths[name]); err != nil {
			return nil, err
		}
	}
	l.Header.Size = p.size
	p.content.Header = l.Header
	out := &packed{parts: p.parts}
	if out.config, err = json.Marshal(p.content); err != nil {
		return nil, err
	}
	header, err := json.Marshal(l.Header)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(out.config)
	p.manifest.Config = v1.Descriptor{MediaType: configType, Size: int64(len(out.config)),
		Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	p.manifest.Annotations = map[string]string{headerAnnotation: string(header)}
	if out.manifest, err = json.Marshal(p.manifest); err != nil {
		return nil, err
	}
	if len(out.manifest) > maxManifest || len(out.config) > maxConfig {
		return nil, fmt.Errorf("its manifest has %d bytes, more than registries take: it is too large to be shared",
			len(out.manifest))
	}
	if _, _, err := decodeManifest(out.manifest); err != nil {
		return nil, err
	}
	_, err = decodeContent(out.config, len(p.manifest.Layers))
	return out, err
}

// packer makes a packed.
type packer struct {
	ctx      context.Context
	enc      *zstd.Encoder
	content  content
	manifest v1.Manifest
	parts    map[v1.Hash]part
	at, size int64
}

// tree adds the file or directory at path.
func (p *packer) tree(name, path string) error {
	return filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, at)
		if err != nil {
			return err
		}
		f := file{Name: filepath.ToSlash(filepath.Join(name, rel))}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f.Mode = uint32(info.Mode().Type() | info.Mode().Perm())
		switch {
		case f.Name == ".":
			return nil
		case info.Mode().IsRegular():
			f.Size = info.Size()
			if f.Size >= ChunkSize { // the chunks of equal files are equal
				p.at = (p.at + ChunkSize - 1) / ChunkSize * ChunkSize
			}
			f.At = p.at
			p.at += f.Size
			p.size += f.Size
			err = p.file(at, f)
		case info.Mode()&fs.ModeSymlink != 0:
			f.Link, err = os.Readlink(at)
		}
		p.content.Files = append(p.content.Files, f)
		return err
	})
}

// file adds the chunks of a file that are not zero.
func (p *packer) file(path string, f file) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	buf, zeroes := make([]byte, ChunkSize), make([]byte, ChunkSize)
	for at := int64(0); at < f.Size; at += ChunkSize {
		if err := p.ctx.Err(); err != nil {
			return context.Cause(p.ctx)
		}
		if data, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			break
		} else if err == nil && data >= at+ChunkSize {
			at = data/ChunkSize*ChunkSize - ChunkSize
			continue
		}
		b := buf[:min(ChunkSize, f.Size-at)]
		if _, err := in.ReadAt(b, at); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if !bytes.Equal(b, zeroes[:len(b)]) {
			p.chunk(path, at, f.At+at, b)
		}
	}
	return nil
}

func (p *packer) chunk(path string, at, inStream int64, b []byte) {
	sum := sha256.Sum256(b)
	z := p.enc.EncodeAll(b, nil)
	zsum := sha256.Sum256(z)
	d := v1.Descriptor{MediaType: chunkType, Size: int64(len(z)),
		Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(zsum[:])}}
	p.manifest.Layers = append(p.manifest.Layers, d)
	p.content.Chunks = append(p.content.Chunks, chunk{inStream, int64(len(b)), hex.EncodeToString(sum[:])})
	p.parts[d.Digest] = part{path, at, int64(len(b)), d}
}

// RawConfigFile implements partial.CompressedImageCore.
func (p *packed) RawConfigFile() ([]byte, error) { return p.config, nil }

// MediaType implements partial.CompressedImageCore.
func (p *packed) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawManifest implements partial.CompressedImageCore.
func (p *packed) RawManifest() ([]byte, error) { return p.manifest, nil }

// LayerByDigest implements partial.CompressedImageCore.
func (p *packed) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	part, ok := p.parts[h]
	if !ok {
		return nil, fmt.Errorf("there is no chunk %s", h)
	}
	return part, nil
}

// Digest implements partial.CompressedLayer.
func (p part) Digest() (v1.Hash, error) { return p.desc.Digest, nil }

// Size implements partial.CompressedLayer.
func (p part) Size() (int64, error) { return p.desc.Size, nil }

// MediaType implements partial.CompressedLayer.
func (p part) MediaType() (types.MediaType, error) { return chunkType, nil }

// Compressed implements partial.CompressedLayer. It fails if the file has changed.
func (p part) Compressed() (io.ReadCloser, error) {
	z, err := p.compress()
	if err != nil {
		return nil, &LocalError{err}
	}
	return io.NopCloser(bytes.NewReader(z)), nil
}

func (p part) compress() ([]byte, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, p.length)
	if _, err := f.ReadAt(b, p.at); err != nil {
		return nil, fmt.Errorf("%s: %w", p.path, err)
	}
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	z := enc.EncodeAll(b, nil)
	if sum := sha256.Sum256(z); hex.EncodeToString(sum[:]) != p.desc.Digest.Hex {
		return nil, fmt.Errorf("%s has changed", p.path)
	}
	return z, nil
}
