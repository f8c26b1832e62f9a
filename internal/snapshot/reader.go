package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"provium/internal/cachedir"
)

// FileID identifies the content of a file, as long as its time of change is not set back.
type FileID struct {
	Dev     uint64 `json:"dev"`
	Ino     uint64 `json:"ino"`
	Size    int64  `json:"size"`
	MtimeNS int64  `json:"mtime_ns"`
}

func identify(f *os.File) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return FileID{}, err
	}
	return fileID(&st), nil
}

// state is a FileID with the time that no program can set back. It changes with the
// file's name and mode as well, so it says only that a file is still as it was.
type state struct {
	FileID
	ctimeNS int64
}

func stateOf(st *unix.Stat_t) state { return state{fileID(st), st.Ctim.Nano()} }

func fileID(st *unix.Stat_t) FileID {
	return FileID{Dev: st.Dev, Ino: st.Ino, Size: st.Size, MtimeNS: time.Unix(st.Mtim.Sec, st.Mtim.Nsec).UnixNano()}
}

// Identify returns the identity of the file at path.
func Identify(path string) (FileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return FileID{}, &Error{path, err}
	}
	return fileID(&st), nil
}

// Reader is an open snapshot whose manifest was verified. It is safe for
// concurrent use.
type Reader struct {
	path     string
	f        *os.File
	state    state // when it was opened
	distrust error // why somebody else may have written it, nil if nobody can have
	manifest *Manifest
	digest   string

	readOnly bool // f was not opened for writing
	mu       sync.Mutex
	copy     *os.File // of a read-only file, or nil
}

// Error is returned when the snapshot at Path cannot be used.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string {
	var op *os.PathError
	if errors.As(e.Err, &op) {
		return fmt.Sprintf("snapshot `%s`: %v", e.Path, op.Err)
	}
	return fmt.Sprintf("snapshot `%s` %v", e.Path, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Open opens a snapshot and verifies its manifest. Errors are *Error, and wrap
// ErrNotSnapshot for a file that is not a snapshot, *VersionError for one of another
// version, and *DamagedError for a damaged one.
func Open(path string) (*Reader, error) {
	r, err := open(path)
	if err != nil {
		return nil, &Error{path, err}
	}
	return r, nil
}

func open(path string) (_ *Reader, err error) {
	// For writing, since QEMU's private mapping needs that. A FIFO must not block.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	readOnly := errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)
	if readOnly {
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if errors.Is(err, unix.EISDIR) {
		return nil, ErrNotSnapshot
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, ErrNotSnapshot
	}
	r := &Reader{path: path, f: f, state: stateOf(&st), distrust: cachedir.CheckFile(&st),
		readOnly: readOnly}
	if r.manifest, r.digest, err = readManifest(f, st.Size); err != nil {
		return nil, err
	}
	return r, nil
}

// readManifest reads and verifies the manifest, and returns its digest.
func readManifest(f io.ReaderAt, size int64) (m *Manifest, digest string, err error) {
	if size < trailerSize {
		return nil, "", ErrNotSnapshot
	}
	end := make([]byte, trailerSize)
	if _, err := f.ReadAt(end, size-trailerSize); err != nil {
		return nil, "", readError(err)
	}
	t, err := decodeTrailer(end, size)
	if err != nil {
		return nil, "", err
	}
	text := make([]byte, t.manifestLen)
	if _, err := f.ReadAt(text, t.manifestAt); err != nil {
		return nil, "", readError(err)
	}
	m, err = decodeManifest(text, t)
	return m, hex.EncodeToString(t.sum[:]), err
}

// readError returns the error of a read. A file that ends early was cut after it was
// opened.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return damaged("it ends early")
	}
	return err
}

// Close closes the file. Machines that run from it go on.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.copy != nil {
		_ = r.copy.Close() // it is gone with that
	}
	return r.f.Close()
}

// Path returns the path that was opened.
func (r *Reader) Path() string { return r.path }

// File returns the file: the RAM from byte 0 on, sections where Manifest says.
func (r *Reader) File() *os.File { return r.f }

// Mappable returns the file as QEMU can map it. Of a file that cannot be written to that is
// a copy, without a name, in the directory dir. It is open until Close.
func (r *Reader) Mappable(dir string) (*os.File, error) {
	if !r.readOnly {
		return r.f, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.copy != nil {
		return r.copy, nil
	}
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err == nil {
		err = errors.Join(os.Remove(f.Name()), copySparse(f, r.f, r.state.Size))
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, &Error{r.path, fmt.Errorf("cannot be written to, and not be copied: %w", err)}
	}
	r.copy = f
	return f, nil
}

// copySparse copies a file into an empty one without filling its holes.
func copySparse(to, from *os.File, size int64) error {
	err := dataExtents(from, 0, size, func(at, end int64) error {
		_, err := io.Copy(io.NewOffsetWriter(to, at), io.NewSectionReader(from, at, end-at))
		return err
	})
	return errors.Join(err, to.Truncate(size))
}

// ID identifies the file.
func (r *Reader) ID() FileID { return r.state.FileID }

// Digest returns a digest of the snapshot's content: of the manifest, which has the
// checksums of everything else.
func (r *Reader) Digest() string { return r.digest }

// Manifest describes the snapshot. It must not be changed.
func (r *Reader) Manifest() *Manifest { return r.manifest }

// Section reads a section and verifies it. A section that does not exist is
// damage.
func (r *Reader) Section(name string) ([]byte, error) {
	p, err := r.section(name)
	if err != nil {
		return nil, &Error{r.path, err}
	}
	return p, nil
}

func (r *Reader) section(name string) ([]byte, error) {
	s, ok := r.manifest.Sections[name]
	if !ok {
		return nil, damaged("it has no section %q", name)
	}
	if s.Sums != "" {
		return nil, damaged("section %q is not of this kind", name)
	}
	p := make([]byte, s.Length) // capped and within the file
	if _, err := r.f.ReadAt(p, s.Offset); err != nil {
		return nil, readError(err)
	}
	sum := sha256.Sum256(p)
	if hex.EncodeToString(sum[:]) != s.SHA256 {
		return nil, damaged("the checksum of section %q does not match", name)
	}
	return p, nil
}

// Verify reads everything and compares it with its checksums.
func (r *Reader) Verify(ctx context.Context) error { return r.verifyWith(ctx, 2) }

// VerifySlowly is Verify on the caller's thread alone.
func (r *Reader) VerifySlowly(ctx context.Context) error { return r.verifyWith(ctx, 0) }

// verifyWith is Verify with a number of further goroutines.
func (r *Reader) verifyWith(ctx context.Context, readers int) error {
	if err := r.verify(ctx, readers); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &Error{r.path, err}
	}
	return nil
}

func (r *Reader) verify(ctx context.Context, readers int) error {
	for name, s := range r.manifest.Sections {
		if s.Sums != "" {
			sums, err := r.section(s.Sums)
			if err != nil {
				return err
			}
			if err := r.verifyRange(ctx, readers, &blocks{fmt.Sprintf("section %q", name), s.Offset, s.Length,
				sums}); err != nil {
				return err
			}
		} else if name != sectionBlocks {
			if _, err := r.section(name); err != nil {
				return err
			}
		}
	}
	sums, err := r.section(sectionBlocks)
	if err != nil {
		return err
	}
	return r.verifyRange(ctx, readers, &blocks{"the RAM", 0, r.manifest.RAM, sums})
}

// blocks is a range of the file with a checksum for each block.
type blocks struct {
	what     string
	at, size int64
	sums     []byte
}

func (r *Reader) verifyRange(ctx context.Context, n int, all *blocks) error {
	// With two readers, the sums of one piece are taken while the next one is read.
	type piece struct{ at, end int64 }
	pieces := make(chan piece)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var readers sync.WaitGroup
	for range n {
		readers.Add(1)
		go func() {
			defer readers.Done()
			buf := make([]byte, verifyStep)
			for p := range pieces {
				if err := all.verify(r.f, buf, p.at, p.end); err != nil {
					cancel(err)
				}
			}
		}()
	}
	var own []byte
	if n == 0 {
		own = make([]byte, verifyStep)
	}
	next := int64(0) // first block not looked at
	err := dataExtents(r.f, all.at, all.at+all.size, func(at, end int64) error {
		at, end = at-all.at, end-all.at
		at, end = at/blockSize*blockSize, min((end+blockSize-1)/blockSize*blockSize, all.size)
		if err := all.holes(next, at); err != nil {
			return err
		}
		at, next = max(at, next), max(end, next)
		for ; at < end; at += verifyStep {
			if n == 0 {
				err := errors.Join(context.Cause(ctx), all.verify(r.f, own, at, min(at+verifyStep, end)))
				if err != nil {
					return err
				}
				continue
			}
			select {
			case pieces <- piece{at, min(at+verifyStep, end)}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	close(pieces)
	readers.Wait()
	if err == nil {
		err = all.holes(next, all.size)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

const verifyStep = 1 << 20

// holes checks that blocks from at to end are known to be zero.
func (b *blocks) holes(at, end int64) error {
	for ; at < end; at += blockSize {
		want := zeroSum
		if b.size-at < blockSize {
			want = crc32.Checksum(make([]byte, b.size-at), castagnoli)
		}
		if binary.LittleEndian.Uint32(b.sums[at/blockSize*4:]) != want {
			return damaged("the block at %d of %s is missing", at, b.what)
		}
	}
	return nil
}

func (b *blocks) verify(f *os.File, buf []byte, at, end int64) error {
	p := buf[:end-at]
	if _, err := f.ReadAt(p, b.at+at); err != nil {
		return readError(err)
	}
	for ; at < end; at += blockSize {
		n := min(blockSize, end-at)
		if crc32.Checksum(p[:n], castagnoli) != binary.LittleEndian.Uint32(b.sums[at/blockSize*4:]) {
			return damaged("the checksum of the block at %d of %s does not match", at, b.what)
		}
		p = p[n:]
	}
	return nil
}

// DiskSize returns the space that a file takes on disk, in bytes, without holes. It is 0
// for a missing file.
func DiskSize(path string) (int64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return 0, nil
	}
	if err != nil {
		return 0, &Error{path, err}
	}
	return st.Blocks * 512, nil
}

// DirSize returns the space on disk of the files in a directory, in bytes; 0 when it is gone.
func DirSize(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if err = ignoreMissing(err); err != nil {
			err = fmt.Errorf("snapshot size: %w", err)
		}
		return 0, err
	}
	var total int64
	for _, e := range entries {
		if e.Type().IsRegular() {
			n, err := DiskSize(filepath.Join(dir, e.Name()))
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}
