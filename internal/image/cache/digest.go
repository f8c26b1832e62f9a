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
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
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
	id := kind + identity(&st)
	if sum, ok := c.Recall(id); ok && isDigest(sum) {
		return sum, nil
	}
	h := sha256.New()
	if err := add(f, h); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if changed := time.Unix(st.Ctim.Unix()); time.Since(changed) > minAge {
		c.Remember(id, sum)
	}
	return sum, nil
}

// identity tells a file from others and from itself after a change.
func identity(st *unix.Stat_t) string {
	return fmt.Sprintf("%d:%d:%d:%d.%d:%d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec,
		st.Ctim.Nsec)
}

// treeDigest returns a digest of the names and contents of all files below dir. It
// returns a *cachedir.Distrust when somebody else may have written one. It remembers
// digests by the identities of the files, see memory.
func (c *Cache) treeDigest(ctx context.Context, dir string, m memory) (string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	t, err := c.openTree(dir)
	if err != nil {
		return "", err
	}
	if m != readAll {
		if sum, ok := c.Recall(t.id); ok && isTreeDigest(sum) {
			return sum, nil
		}
	}
	sum, err := t.read(ctx)
	if err == nil && (m == ownFiles || time.Since(time.Unix(0, t.newest)) > minAge) {
		c.Remember(t.id, sum)
	}
	return sum, err
}

// tree is what is known of a directory without reading files.
type tree struct {
	dir    string
	names  []string // of all that is below dir, relative, in lexical order of WalkDir
	states []state  // of the files
	id     string   // changes with every change of a file
	newest int64    // time of the last change, in nanoseconds since 1970
}

// state is what shows that a file has changed.
type state struct {
	dev, ino           uint64
	size, mtime, ctime int64
	mode               uint32
}

// stateOf returns the state of the file at path, which may be a link. It returns a
// *cachedir.Distrust when somebody else may have written it.
func stateOf(path string) (state, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return state{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := cachedir.CheckFile(&st); err != nil {
		return state{}, fmt.Errorf("%s %w", path, err)
	}
	return state{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), st.Mode & unix.S_IFMT}, nil
}

// openTree looks at all files below dir.
func (c *Cache) openTree(dir string) (*tree, error) {
	// The names of an earlier look are those of today while no directory has changed.
	if names, ok := c.trees.Load(dir); ok {
		t := &tree{dir: dir, names: names.(*tree).names}
		if err := t.look(); err == nil && t.id == names.(*tree).id {
			return t, nil
		}
	}
	t := &tree{dir: dir}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		t.names = append(t.names, strings.TrimPrefix(path[len(dir):], "/"))
		return err
	})
	if err == nil {
		err = t.look()
	}
	if err != nil {
		return nil, err
	}
	c.trees.Store(dir, t)
	return t, nil
}

// look sets all that follows from the names.
func (t *tree) look() error {
	h := sha256.New()
	var b []byte
	t.states = make([]state, len(t.names))
	for i, name := range t.names {
		st, err := stateOf(filepath.Join(t.dir, name))
		if err != nil {
			return err
		}
		t.states[i] = st
		b = binary.LittleEndian.AppendUint32(append(append(b[:0], name...), 0), st.mode)
		if name == "" { // its time is that of its last use, and does not show what was added
			items, err := os.ReadDir(t.dir)
			if err != nil && st.mode == unix.S_IFDIR {
				return err
			}
			for _, item := range items {
				b = append(append(b, item.Name()...), 0)
			}
		} else {
			for _, v := range [...]uint64{st.dev, st.ino, uint64(st.size), uint64(st.mtime), uint64(st.ctime)} {
				b = binary.LittleEndian.AppendUint64(b, v)
			}
			t.newest = max(t.newest, st.ctime)
		}
		h.Write(b)
	}
	t.id = "tree " + hex.EncodeToString(h.Sum(nil))
	return nil
}

// read reads all files and returns their digest.
func (t *tree) read(ctx context.Context) (string, error) {
	h := sha256.New()
	for i, name := range t.names {
		var content string
		var err error
		switch path := filepath.Join(t.dir, name); t.states[i].mode {
		case unix.S_IFDIR:
		case unix.S_IFLNK:
			content, err = os.Readlink(path)
		case unix.S_IFREG:
			content, err = hashFile(ctx, path)
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", path)
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %o %q\n", name, t.states[i].mode, content)
	}
	return hex.EncodeToString(h.Sum(nil))[:treeDigestLen], nil
}

// memory says how digests that are remembered are used.
type memory int

const (
	known    memory = iota // use them, and remember those of files that are old enough
	ownFiles               // remember also those of young files: nobody else knows these
	readAll                // do not use them
)

// hashFile returns the SHA-256 of a file's content, in hex.
func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, NewReader(ctx, f))
	return hex.EncodeToString(h.Sum(nil)), err
}

// treeDigestLen is the length of a digest in the name of an entry.
const treeDigestLen = 40

func isTreeDigest(s string) bool {
	return len(s) == treeDigestLen && isDigest(s+strings.Repeat("0", 24))
}

// Remember keeps a value of at most maxMemo bytes for what is described by what. That it
// cannot be kept is no error.
func (c *Cache) Remember(what, value string) {
	tmp, err := c.MakeTemp(dirDigest)
	if err != nil {
		return
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "entry")
	if os.WriteFile(file, []byte(value+" "+Key(memoFormat, what, value)), 0o644) != nil {
		return
	}
	if os.Rename(file, c.memo(what)) != nil { // something else is in its place
		_ = removeAll(c.memo(what))
		_ = os.Rename(file, c.memo(what))
	}
}

// Recall returns what was remembered, if it is still what was written.
func (c *Cache) Recall(what string) (value string, ok bool) {
	f, err := os.Open(c.memo(what))
	if err != nil {
		return "", false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Size > maxMemo+100 || cachedir.CheckFile(&st) != nil {
		return "", false
	}
	text, err := io.ReadAll(io.LimitReader(f, maxMemo+100))
	if err != nil {
		return "", false
	}
	value, seal, _ := strings.Cut(string(text), " ")
	return value, seal == Key(memoFormat, what, value)
}

const (
	maxMemo    = 100
	memoFormat = "memo 2"
)

func (c *Cache) memo(what string) string { return c.Path(dirDigest, Key(memoFormat, what)) }

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
