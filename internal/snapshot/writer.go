package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Writer makes a snapshot. Nothing is visible at its path before Commit. It is not safe
// for concurrent use.
type Writer struct {
	path string
	f    *os.File // unnamed to others: a temporary name beside path
	ram  int64
	sums []uint32 // of the blocks
	// copied are hashes of the blocks that CopyRAM wrote, 0 for none.
	copied []uint64
	seed   maphash.Seed
	// stale are the blocks whose sums must be computed again.
	stale    map[int64]bool
	end      int64
	sections map[string]Section
	base     *Base
	key      string
	buf      []byte
}

var zeroPage [PageSize]byte

// zeroSum is the checksum of a block that is a hole.
var zeroSum = crc32.Checksum(make([]byte, blockSize), castagnoli)

// Create starts a snapshot of a machine with so many bytes of RAM, which must be
// whole pages. Either Commit or Abort must follow.
func Create(path string, ram int64) (*Writer, error) {
	if ram <= 0 || ram > maxRAM || ram%PageSize != 0 {
		return nil, fmt.Errorf("snapshot create: %d bytes of RAM are not whole pages up to %d", ram, int64(maxRAM))
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("snapshot create: %s exists and is no regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), tempPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("snapshot create: %w", inPlace(err, path))
	}
	w := &Writer{path: path, f: f, ram: ram, sums: make([]uint32, blockCount(ram)), stale: map[int64]bool{},
		copied: make([]uint64, blockCount(ram)), seed: maphash.MakeSeed(),
		end: ram, sections: map[string]Section{}, buf: make([]byte, 1<<20)}
	for i := range w.sums {
		w.sums[i] = zeroSum
	}
	if tail := ram % blockSize; tail != 0 {
		w.sums[len(w.sums)-1] = crc32.Checksum(make([]byte, tail), castagnoli)
	}
	if err := f.Truncate(ram); err != nil {
		w.Abort()
		return nil, fmt.Errorf("snapshot create: %w", inPlace(err, path))
	}
	return w, nil
}

const tempPrefix = ".snapshot-"

// CopyRAM copies the RAM from the start of a file, leaving out holes and pages
// of zeros. Called again, it copies what has changed since: the first call may
// be made while the guest runs, and only the last one counts.
func (w *Writer) CopyRAM(from *os.File) error {
	next := int64(0) // first block not looked at
	err := dataExtents(from, 0, w.ram, func(at, end int64) error {
		// Whole blocks, so that their checksums can be taken on the way.
		at = max(at/blockSize*blockSize, next)
		end = min((end+blockSize-1)/blockSize*blockSize, w.ram)
		if err := w.clear(next, at); err != nil {
			return err
		}
		for at < end {
			p := w.buf[:min(int64(len(w.buf)), end-at)]
			if _, err := from.ReadAt(p, at); err != nil {
				return err
			}
			if err := w.putBlocks(p, at); err != nil {
				return err
			}
			at += int64(len(p))
		}
		next = max(next, end)
		return nil
	})
	if err == nil {
		err = w.clear(next, w.ram)
	}
	if err != nil {
		return fmt.Errorf("snapshot RAM copy: %w", inPlace(err, w.path))
	}
	return nil
}

// clear makes blocks zero that an earlier CopyRAM wrote.
func (w *Writer) clear(at, end int64) error {
	for ; at < end; at += blockSize {
		if w.copied[at/blockSize] == 0 {
			continue
		}
		w.copied[at/blockSize] = 0
		if err := w.PutRAM(at, make([]byte, min(blockSize, w.ram-at))); err != nil {
			return err
		}
	}
	return nil
}

// putBlocks writes whole blocks, unless they are there already.
func (w *Writer) putBlocks(p []byte, at int64) error {
	for ; len(p) > 0; at += blockSize {
		block := p[:min(blockSize, len(p))]
		p = p[len(block):]
		hash := maphash.Bytes(w.seed, block) | 1 // never 0
		if w.copied[at/blockSize] == hash {
			continue
		}
		if w.copied[at/blockSize] != 0 {
			if err := w.PutRAM(at, block); err != nil {
				return err
			}
			w.copied[at/blockSize] = hash
			continue
		}
		w.copied[at/blockSize] = hash
		w.sums[at/blockSize] = crc32.Checksum(block, castagnoli)
		err := eachRun(block, func(off int64, run []byte, zero bool) error {
			if zero {
				return nil
			}
			_, err := w.f.WriteAt(run, at+off)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachRun splits p into runs of pages that are all zero or all not.
func eachRun(p []byte, visit func(off int64, run []byte, zero bool) error) error {
	isZero := func(at int) bool {
		page := p[at:min(at+PageSize, len(p))]
		return bytes.Equal(page, zeroPage[:len(page)])
	}
	for start := 0; start < len(p); {
		zero, end := isZero(start), start+PageSize
		for end < len(p) && isZero(end) == zero {
			end += PageSize
		}
		end = min(end, len(p))
		if err := visit(int64(start), p[start:end], zero); err != nil {
			return err
		}
		start = end
	}
	return nil
}

// PutRAM replaces whole pages of RAM.
func (w *Writer) PutRAM(at int64, p []byte) error {
	if at < 0 || at%PageSize != 0 || len(p)%PageSize != 0 || at+int64(len(p)) > w.ram {
		return fmt.Errorf("snapshot RAM write: %d bytes at %d are not pages of %d", len(p), at, w.ram)
	}
	for b := at / blockSize; b*blockSize < at+int64(len(p)); b++ {
		w.stale[b] = true
	}
	err := eachRun(p, func(off int64, run []byte, zero bool) error {
		if zero {
			err := unix.Fallocate(int(w.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at+off,
				int64(len(run)))
			if err == nil || !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
		}
		_, err := w.f.WriteAt(run, at+off)
		return err
	})
	if err != nil {
		return fmt.Errorf("snapshot RAM write: %w", inPlace(err, w.path))
	}
	return nil
}

// PutSection adds a section; its name must be new.
func (w *Writer) PutSection(name string, p []byte) error {
	if _, twice := w.sections[name]; twice || len(w.sections) >= maxSections {
		return fmt.Errorf("snapshot section %q: there is one already, or there are too many", name)
	}
	if len(p) > maxSection {
		return fmt.Errorf("snapshot section %q: %d bytes, at most %d are possible", name, len(p), maxSection)
	}
	if _, err := w.f.WriteAt(p, w.end); err != nil {
		return fmt.Errorf("snapshot section %q: %w", name, inPlace(err, w.path))
	}
	sum := sha256.Sum256(p)
	w.sections[name] = Section{Offset: w.end, Length: int64(len(p)), SHA256: hex.EncodeToString(sum[:])}
	w.end += int64(len(p))
	return nil
}

// PutData adds a section of any size: the data that fill passes to add, in pieces of
// whole 64 KiB except for the last one. Pages of zeros become holes where the section
// begins at a page. Its checksums go to a section named sums.
func (w *Writer) PutData(name, sums string, fill func(add func(p []byte) error) error) error {
	if _, twice := w.sections[name]; twice || len(w.sections) >= maxSections {
		return fmt.Errorf("snapshot section %q: there is one already, or there are too many", name)
	}
	at := w.end
	var table []byte
	err := fill(func(p []byte) error {
		if (w.end-at)%blockSize != 0 || w.end-at+int64(len(p)) > maxData {
			return errors.New("pieces do not fit together, or are too many")
		}
		for b := 0; b < len(p); b += blockSize {
			table = binary.LittleEndian.AppendUint32(table, crc32.Checksum(p[b:min(b+blockSize, len(p))], castagnoli))
		}
		begin := w.end
		w.end += int64(len(p))
		return eachRun(p, func(off int64, run []byte, zero bool) error {
			if zero {
				return nil
			}
			_, err := w.f.WriteAt(run, begin+off)
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("snapshot section %q: %w", name, inPlace(err, w.path))
	}
	w.sections[name] = Section{Offset: at, Length: w.end - at, Sums: sums}
	return w.PutSection(sums, table)
}

// Commit completes the snapshot and renames it to its path. It sets m.RAM, m.Sections,
// m.Base and, in a cache, m.Key, and returns the identity of the file. The Writer cannot be
// used after it, even if it fails.
//
// Nothing is forced to the disk: after a crash of the host the file may be
// damaged, which its reader sees.
func (w *Writer) Commit(m *Manifest) (FileID, error) {
	defer w.Abort()
	err := w.finish(m)
	var id FileID
	if err == nil {
		id, err = identify(w.f)
	}
	if err == nil {
		err = os.Rename(w.f.Name(), w.path)
	}
	if err != nil {
		return FileID{}, fmt.Errorf("snapshot write: %w", inPlace(err, w.path))
	}
	return id, nil
}

// inPlace returns an error about the temporary file as one about the snapshot that was to
// be at path.
func inPlace(err error, path string) error {
	var file *fs.PathError
	var rename *os.LinkError
	switch {
	case errors.As(err, &file):
		return &fs.PathError{Op: file.Op, Path: path, Err: file.Err}
	case errors.As(err, &rename):
		return &fs.PathError{Op: rename.Op, Path: path, Err: rename.Err}
	}
	return err
}

func (w *Writer) finish(m *Manifest) error {
	for b := range w.stale {
		p := w.buf[:min(blockSize, w.ram-b*blockSize)]
		if _, err := w.f.ReadAt(p, b*blockSize); err != nil {
			return err
		}
		w.sums[b] = crc32.Checksum(p, castagnoli)
	}
	table := make([]byte, 0, 4*len(w.sums))
	for _, s := range w.sums {
		table = binary.LittleEndian.AppendUint32(table, s)
	}
	if err := w.PutSection(sectionBlocks, table); err != nil {
		return err
	}
	m.RAM, m.Sections, m.Base = w.ram, w.sections, w.base
	if w.key != "" {
		m.Key = w.key
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(text) > maxManifest {
		return fmt.Errorf("manifest of %d bytes, at most %d are possible", len(text), maxManifest)
	}
	t := trailer{manifestAt: w.end, manifestLen: uint32(len(text)), sum: sha256.Sum256(text)}
	_, err = w.f.WriteAt(append(text, t.encode()...), w.end)
	return err
}

// Abort discards what was not committed. It may be called at any time.
func (w *Writer) Abort() {
	if w.f == nil {
		return
	}
	_ = os.Remove(w.f.Name()) // after a rename there is nothing by that name
	_ = w.f.Close()
	w.f = nil
}

// dataExtents calls visit for the parts of a range of f that are not holes. On a file
// system without holes that is the whole range.
func dataExtents(f *os.File, at, size int64, visit func(at, end int64) error) error {
	for at < size {
		start, err := seek(f, at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return nil // a hole up to the end
		case errors.Is(err, unix.EINVAL):
			return visit(at, size)
		case err != nil:
			return err
		}
		if start >= size {
			return nil
		}
		end, err := seek(f, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, size)
		if err := visit(start, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// seek finds data or a hole in a file that may be closed meanwhile, as a guest's memory
// is with the guest.
func seek(f *os.File, at int64, whence int) (int64, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var found int64
	controlErr := raw.Control(func(fd uintptr) { found, err = unix.Seek(int(fd), at, whence) })
	if controlErr != nil {
		return 0, controlErr
	}
	return found, err
}
