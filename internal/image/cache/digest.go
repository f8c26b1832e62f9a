package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// minAge is the age from which on a file's digest is remembered. A younger file may
// change and keep its identity, since the clock of timestamps is coarse.
const minAge = 2 * time.Second

// FileDigest returns the SHA-256 of a file's content, in hex. It remembers the digests
// of files by identity, so that a large initrd is read once.
func (c *Cache) FileDigest(ctx context.Context, path string) (string, error) {
	return c.digest(ctx, path, "", func(f *os.File, h hash.Hash) error {
		_, err := io.Copy(h, NewReader(ctx, f))
		return err
	})
}

// ContentDigest returns a digest of the content of a disk's image, which is the same
// with fewer zeroes at the end and with holes in place of zeroes. It remembers digests
// like FileDigest.
func (c *Cache) ContentDigest(ctx context.Context, path string) (string, error) {
	return c.digest(ctx, path, "content", func(f *os.File, h hash.Hash) error {
		return hashBlocks(ctx, f, h)
	})
}

// contentBlock is the unit in which ContentDigest skips zeroes, in bytes.
const contentBlock = 1 << 20

// hashBlocks hashes the blocks of a file that are not zero, each behind its offset.
func hashBlocks(ctx context.Context, f *os.File, h hash.Hash) error {
	block, zeroes := make([]byte, contentBlock), make([]byte, contentBlock)
	for at := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		switch {
		case err == unix.ENXIO:
			return nil
		case err == nil:
			at = max(at, data/contentBlock*contentBlock)
		}
		n, err := f.ReadAt(block, at)
		if err != nil && err != io.EOF {
			return err
		}
		if n == 0 {
			return nil
		}
		clear(block[n:])
		if !bytes.Equal(block, zeroes) {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
			h.Write(block)
		}
		at += contentBlock
	}
}

// digest returns a file's digest of a kind, from memory or computed by add.
func (c *Cache) digest(ctx context.Context, path, kind string, add func(f *os.File, h hash.Hash) error) (string,
	error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	id := Key(fmt.Sprintf("%s%d:%d:%d:%d.%d:%d.%d", kind, st.Dev, st.Ino, st.Size,
		st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec))
	memo := c.Path(dirDigest, id)
	if text, err := os.ReadFile(memo); err == nil && isDigest(string(text)) {
		return string(text), nil
	}
	h := sha256.New()
	if err := add(f, h); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if changed := time.Unix(st.Ctim.Unix()); time.Since(changed) > minAge {
		// Without the memory the next run reads the file again, which is no error.
		_ = c.Install(dirDigest, id, func(tmp string) error {
			return os.WriteFile(tmp, []byte(sum), 0o644)
		})
	}
	return sum, nil
}

// isDigest reports whether s is a digest in hex.
func isDigest(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 2*sha256.Size
}

// Key returns the digest of parts, for the name of what is made from them.
func Key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:", len(p))
		io.WriteString(h, p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// contextReader is the reader of NewReader.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// NewReader returns a reader of r that fails once ctx ends, for long copies.
func NewReader(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }
