package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"provium/internal/arch"
	"provium/internal/image/cache"
	"provium/internal/image/decompress"
	"provium/internal/userland"
)

// initrdFormat is part of every initrd's key. Raise it when the same inputs lead to
// other bytes.
const initrdFormat = "initrd 1"

// expandLimit is the largest decompressed size up to which a compressed initrd
// is stored uncompressed. The guest starts sooner, above all when it is emulated,
// but for a moment it holds the archive and its content at once.
const expandLimit = 64 << 20

// initrdInput is what an initrd with the agent is made of.
type initrdInput struct {
	arch    *arch.Arch
	busybox string // for the built-in one, where that is not of the payload
	base    string // the profile's initrd, "" for the built-in one
	agent   []item
	own     *builtin // the agent, if it is the payload's
	modules moduleSet
	// userland is what the guest leaves the initrd for; nil if it stays.
	userland *userland.Userland
	shares   []string // as those of Spec
}

// buildInitrd returns the path of the cached initrd for the input, which it makes if it
// is missing or damaged, and its key.
func (s *Store) buildInitrd(ctx context.Context, in initrdInput) (file, key string, err error) {
	var baseItems []item
	baseKey, baseDigest := "built-in", hashItems(nil)
	if in.base != "" {
		if baseKey, err = s.cache.FileDigest(ctx, in.base); err != nil {
			return "", "", fmt.Errorf("read initrd %s: %w", in.base, reason(err))
		}
	} else {
		b, err := s.baseFor(in)
		if err != nil {
			return "", "", err
		}
		baseItems, baseDigest = b.items, b.digest
	}
	modules := slices.Concat(moduleItems(in.modules), userlandItems(in.userland), shareItems(in.shares))
	overlay := slices.Concat(in.agent, modules)
	var digest string
	if in.own != nil {
		if digest, err = in.own.digestWith(modules); err != nil {
			return "", "", err
		}
	} else {
		digest = hashItems(overlay)
	}
	key = cache.Key(initrdFormat, baseKey, baseDigest, digest)
	dir, err := s.cache.Make(ctx, kindInitrd, key, func(dir string) error {
		return writeInitrd(ctx, filepath.Join(dir, initrdFile), in.base, baseItems, overlay)
	})
	if err != nil {
		return "", "", fmt.Errorf("build initrd: %w", err)
	}
	return filepath.Join(dir, initrdFile), key, nil
}

// initrdFile is the file in an entry of kindInitrd.
const initrdFile = "initrd"

// writeInitrd writes a new initrd.
func writeInitrd(ctx context.Context, path, base string, baseItems, overlay []item) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if base == "" {
		err = writeBuiltin(f, baseItems, overlay)
	} else {
		err = mergeInitrd(ctx, f, base, overlay)
	}
	return errors.Join(err, f.Close())
}

// hashItems returns the digest of items.
func hashItems(items []item) string {
	h := sha256.New()
	addItems(h, items)
	return hex.EncodeToString(h.Sum(nil))
}

func addItems(h hash.Hash, items []item) {
	for _, it := range items {
		fmt.Fprintf(h, "%q %o %d %d %d %d %d\n", it.Name, it.Mode, it.UID, it.GID, it.Major, it.Minor, len(it.data))
		h.Write(it.data)
	}
}

// writeBuiltin writes the built-in initrd with the overlay.
func writeBuiltin(f *os.File, base, overlay []item) error {
	l, err := listItems(base)
	if err != nil {
		return err
	}
	placed, err := l.place(overlay)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := writeArchive(w, append(base, placed...)); err != nil {
		return err
	}
	return w.Flush()
}

// mergeInitrd writes the profile's initrd followed by the overlay.
func mergeInitrd(ctx context.Context, f *os.File, base string, overlay []item) error {
	in, size, bootconfig, err := openInitrd(base)
	if err != nil {
		return err
	}
	defer in.Close()
	l, err := readListing(cache.NewReader(ctx, io.NewSectionReader(in, 0, size)), base)
	if err != nil {
		return err
	}
	placed, err := l.place(overlay)
	if err != nil {
		return fmt.Errorf("initrd %s: %w", base, err)
	}
	if err := copyBase(ctx, f, in, size, l); err != nil {
		return fmt.Errorf("copy initrd %s: %w", base, err)
	}
	return appendArchive(f, bootconfig, func(w io.Writer) error { return writeArchive(w, placed) })
}

// appendArchive writes an archive to the end of an initrd, and behind it a bootconfig, if there is one.
func appendArchive(f *os.File, bootconfig []byte, archive func(io.Writer) error) error {
	if err := pad(f); err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := archive(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil || bootconfig == nil {
		return err
	}
	if err := pad(f); err != nil {
		return err
	}
	_, err := f.Write(bootconfig)
	return err
}

// copyBase copies the base, decompressed if it is small. So is one in the lz4 format,
// which marks no end: older kernels would take what follows for a part of it.
func copyBase(ctx context.Context, f, in *os.File, size int64, l *listing) error {
	if l.size() > expandLimit && !l.has(decompress.LZ4) {
		return copyFile(f, in, size)
	}
	for _, seg := range l.segments {
		if err := pad(f); err != nil {
			return err
		}
		var r io.Reader = io.NewSectionReader(in, seg.start, seg.end-seg.start)
		if seg.format != decompress.None {
			z, err := decompress.NewReader(seg.format, decompress.NewSource(r))
			if err != nil {
				return err
			}
			r = io.LimitReader(z, seg.expanded)
			defer z.Close()
		}
		if _, err := io.Copy(f, cache.NewReader(ctx, r)); err != nil {
			return err
		}
	}
	return nil
}

// pad writes zeros up to a multiple of four bytes, where an archive may start.
func pad(f *os.File) error {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	var zero [3]byte
	_, err = f.Write(zero[:-at&3])
	return err
}
