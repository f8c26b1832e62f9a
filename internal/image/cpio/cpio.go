// Package cpio reads and writes cpio archives in the "newc" format, the one the
// Linux kernel unpacks an initramfs from.
//
// It is a codec and nothing more: it does not decompress, does not touch the
// file system, and takes one archive at a time. Archives are treated as hostile:
// lengths are checked against the limits below before anything is allocated.
package cpio

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// File types in Entry.Mode, as in stat(2).
const (
	TypeMask    = 0o170000
	TypeSocket  = 0o140000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
	TypeFIFO    = 0o010000
)

const (
	headerLen = 110
	magicNewc = "070701"
	magicCRC  = "070702"
	trailer   = "TRAILER!!!"

	// MaxName is the longest name and the longest symlink target, in bytes
	// (the kernel's PATH_MAX without its final NUL).
	MaxName = 4095
	// MaxSize is the largest content the format can express, in bytes.
	MaxSize = 1<<32 - 1
)

// Entry is the header of one archive member.
type Entry struct {
	// Name is the path as the archive has it, e.g. "bin/sh" or "./bin/sh".
	Name string
	// Mode is the file type and the permissions, as in stat(2).
	Mode uint32
	UID  uint32
	GID  uint32
	// Ino identifies the hard links of one file when Links is above 1.
	Ino   uint32
	Links uint32
	// Mtime is in seconds since the epoch.
	Mtime uint32
	// Size is the length of the content in bytes; for a symlink, of its target.
	Size int64
	// Major and Minor number a device node.
	Major, Minor uint32
}

// Type returns the file type part of the mode.
func (e *Entry) Type() uint32 { return e.Mode & TypeMask }

// FormatError reports bytes that are no valid archive.
type FormatError struct {
	// Offset is where the faulty header begins, from the start of the archive.
	Offset int64
	// Reason says what is wrong there.
	Reason string
	// Cut is set if the input ends within a member.
	Cut bool
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("bad cpio archive at offset %d: %s", e.Offset, e.Reason)
}

// Reader reads one archive. It is not safe for concurrent use.
type Reader struct {
	r    io.Reader
	off  int64 // bytes read so far
	left int64 // bytes of the current content that were not read
	pad  int64 // bytes between that content and the next header
	err  error
}

// NewReader reads the archive that starts at r's position. Exactly the bytes up
// to the end of the trailer are read.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next skips what is left of the current member and returns the next one, or
// io.EOF behind the trailer. Input that ends or is no archive gives a
// *FormatError; other errors are those of the underlying reader.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	if err != nil {
		r.err = err
		return nil, err
	}
	return e, nil
}

func (r *Reader) next() (*Entry, error) {
	if err := r.skip(r.left + r.pad); err != nil {
		return nil, err
	}
	r.left, r.pad = 0, 0
	start := r.off
	var h [headerLen]byte
	if err := r.full(h[:], start); err != nil {
		return nil, err
	}
	if m := string(h[:6]); m != magicNewc && m != magicCRC {
		return nil, &FormatError{Offset: start, Reason: fmt.Sprintf("bad magic number %q", m)}
	}
	var f [13]uint32
	for i := range f {
		v, err := parseHex(h[6+8*i : 14+8*i])
		if err != nil {
			return nil, &FormatError{Offset: start, Reason: fmt.Sprintf("bad header field %q", h[6+8*i:14+8*i])}
		}
		f[i] = v
	}
	nameSize := int64(f[11])
	if nameSize < 1 || nameSize > MaxName+1 {
		return nil, &FormatError{Offset: start, Reason: fmt.Sprintf("name of %d bytes (1 to %d are valid)", nameSize,
			MaxName+1)}
	}
	name := make([]byte, nameSize)
	if err := r.full(name, start); err != nil {
		return nil, err
	}
	if name[nameSize-1] != 0 {
		return nil, &FormatError{Offset: start, Reason: "name without final NUL"}
	}
	n, _, _ := strings.Cut(string(name), "\x00")
	if err := r.skip(padding(headerLen + nameSize)); err != nil {
		return nil, err
	}
	e := &Entry{
		Name: n, Ino: f[0], Mode: f[1], UID: f[2], GID: f[3], Links: f[4], Mtime: f[5],
		Size: int64(f[6]), Major: f[9], Minor: f[10],
	}
	r.left = e.Size
	r.pad = padding(e.Size)
	if n == trailer {
		if err := r.skip(r.left + r.pad); err != nil {
			return nil, err
		}
		r.left, r.pad = 0, 0
		return nil, io.EOF
	}
	if e.Type() == TypeSymlink && e.Size > MaxName {
		return nil, &FormatError{Offset: start, Reason: fmt.Sprintf(
			"symlink %q has a target of %d bytes (at most %d)", n, e.Size, MaxName)}
	}
	return e, nil
}

// Read reads the content of the current member; io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.off += int64(n)
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = cut(r.off)
	}
	if err == io.EOF {
		err = nil
	}
	if err != nil {
		r.err = err
	}
	return n, err
}

// Offset returns the number of bytes read so far.
func (r *Reader) Offset() int64 { return r.off }

// full reads p. A plain io.EOF or io.ErrUnexpectedEOF means that the input ended
// (io.ReadFull makes the latter); a wrapped one comes from a decompressor below,
// whose stream is cut, and is passed on as it is.
func (r *Reader) full(p []byte, start int64) error {
	n, err := io.ReadFull(r.r, p)
	r.off += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return &FormatError{start, "archive ends without a trailer", n > 0}
	}
	return err
}

func (r *Reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	m, err := io.CopyN(io.Discard, r.r, n)
	r.off += m
	if err == io.EOF {
		return cut(r.off)
	}
	return err
}

func cut(at int64) error {
	return &FormatError{Offset: at, Reason: "archive ends in the middle of a file", Cut: true}
}

func padding(n int64) int64 { return -n & 3 }

func parseHex(b []byte) (uint32, error) {
	v, err := strconv.ParseUint(string(b), 16, 32)
	return uint32(v), err
}
