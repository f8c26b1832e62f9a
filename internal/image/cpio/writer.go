package cpio

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Writer writes one archive. It numbers inodes by itself, so that the same calls
// give the same bytes. It is not safe for concurrent use.
type Writer struct {
	w    io.Writer
	off  int64
	ino  uint32
	left int64 // bytes of the current content still to come
	err  error
}

// NewWriter starts an archive at w's position, which has to be a multiple of
// four bytes from the start of the initramfs.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// WriteHeader starts the next member. Exactly e.Size bytes have to follow
// through Write. e.Ino and e.Links are ignored: the writer makes no hard links.
func (w *Writer) WriteHeader(e *Entry) error {
	if w.err != nil {
		return w.err
	}
	if err := check(e); err != nil {
		return err
	}
	if w.left > 0 {
		return fmt.Errorf("write cpio entry %q: %d bytes of the entry before it are missing", e.Name, w.left)
	}
	w.ino++
	links := uint32(1)
	if e.Type() == TypeDir {
		links = 2
	}
	w.header(e, w.ino, links)
	w.left = e.Size
	return w.err
}

func check(e *Entry) error {
	switch {
	case e.Name == "" || len(e.Name) > MaxName || strings.ContainsRune(e.Name, 0):
		return fmt.Errorf("write cpio entry: bad name %q (1 to %d bytes, no NUL)", e.Name, MaxName)
	case e.Name == trailer:
		return fmt.Errorf("write cpio entry: the name %q is reserved", e.Name)
	case e.Size < 0 || e.Size > MaxSize:
		return fmt.Errorf("write cpio entry %q: size %d is out of range (at most %d)", e.Name, e.Size, int64(MaxSize))
	case e.Size > 0 && e.Type() != TypeRegular && e.Type() != TypeSymlink:
		return fmt.Errorf("write cpio entry %q: only files and symlinks have content", e.Name)
	}
	return nil
}

func (w *Writer) header(e *Entry, ino, links uint32) {
	name := e.Name + "\x00"
	h := fmt.Sprintf("%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s", magicNewc,
		ino, e.Mode, e.UID, e.GID, links, e.Mtime, e.Size, 0, 0, e.Major, e.Minor, len(name), 0, name)
	w.put([]byte(h + "\x00\x00\x00"[:padding(int64(len(h)))]))
}

func (w *Writer) put(p []byte) {
	if w.err != nil {
		return
	}
	n, err := w.w.Write(p)
	w.off += int64(n)
	w.err = err
}

// Write writes content of the current member.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.left {
		return 0, errors.New("write cpio content: more bytes than the header announced")
	}
	n, err := w.w.Write(p)
	w.off += int64(n)
	w.left -= int64(n)
	w.err = err
	if err == nil && w.left == 0 {
		var zero [3]byte
		w.put(zero[:padding(w.off)])
	}
	return n, w.err
}

// Add writes a whole member with content from memory; e.Size is set from it.
func (w *Writer) Add(e Entry, content []byte) error {
	e.Size = int64(len(content))
	if err := w.WriteHeader(&e); err != nil {
		return err
	}
	if len(content) == 0 {
		return nil
	}
	_, err := w.Write(content)
	return err
}

// Close writes the trailer. It does not close what it writes to. The length of
// the archive is a multiple of four bytes.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.left > 0 {
		return fmt.Errorf("close cpio archive: %d bytes of the last entry are missing", w.left)
	}
	w.header(&Entry{Name: trailer}, 0, 1)
	err := w.err
	if err == nil {
		w.err = errors.New("write cpio archive: it is closed")
	}
	return err
}
