package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/image/cache"
	"provium/internal/image/cpio"
	"provium/internal/image/decompress"
)

// Limits on an initrd that is read.
const (
	maxInitrd     = 4 << 30 // bytes, in the file
	maxExpanded   = 8 << 30 // bytes, decompressed
	maxEntries    = 1 << 20
	maxNameBytes  = 256 << 20
	maxLinkDepth  = 40
	cpioMagicLead = '0' // what the kernel takes for the start of an archive
)

// node is what a listing knows of one path.
type node struct {
	mode   uint32
	target string // of a symlink
}

// segment is one part of an initrd: a run of archives that is stored as it is, or
// inside of one compressed stream.
type segment struct {
	format     decompress.Format
	start, end int64 // in the file
	expanded   int64 // bytes after decompression
}

// listing tells what an initrd leaves in the root file system.
type listing struct {
	nodes    map[string]node // by clean path without leading slash
	segments []segment
	names    int64
}

func newListing() *listing { return &listing{nodes: map[string]node{}} }

// add records an archive member, a later one replacing an earlier one as it does
// in the kernel.
func (l *listing) add(e *cpio.Entry, target string) error {
	name := cleanName(e.Name)
	if name == "" {
		return nil
	}
	l.names += int64(len(name) + len(target))
	if len(l.nodes) >= maxEntries || l.names > maxNameBytes {
		return fmt.Errorf("more than %d entries or %d bytes of names", maxEntries, maxNameBytes)
	}
	l.nodes[name] = node{mode: e.Mode, target: target}
	return nil
}

func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// resolve follows the listing's symlinks in every component of name but, unless
// last is set, the last one. A component that does not exist is kept as it is.
func (l *listing) resolve(name string, last bool) (string, error) {
	rest := strings.Split(cleanName(name), "/")
	cur := ""
	links := 0
	for len(rest) > 0 {
		next := path.Join(cur, rest[0])
		rest = rest[1:]
		n, ok := l.nodes[next]
		if !ok || n.mode&cpio.TypeMask != cpio.TypeSymlink || len(rest) == 0 && !last {
			cur = next
			continue
		}
		if links++; links > maxLinkDepth {
			return "", fmt.Errorf("too many symlinks at /%s", next)
		}
		to := n.target
		if !strings.HasPrefix(to, "/") {
			to = path.Join("/", path.Dir(next), to)
		}
		if to = cleanName(to); to != "" {
			rest = append(strings.Split(to, "/"), rest...)
		}
		cur = ""
	}
	return cur, nil
}

// corruptError reports an initrd that the kernel could not unpack.
type corruptError struct {
	path   string
	offset int64
	err    error
	cut    bool // the rest of a valid one is missing
}

func (e *corruptError) Error() string {
	if e.cut {
		return fmt.Sprintf("initrd %s is cut short at offset %d: %v; make or copy it again", e.path, e.offset, e.err)
	}
	return fmt.Sprintf("initrd %s is corrupt at offset %d: %v", e.path, e.offset, e.err)
}

func (e *corruptError) Unwrap() error { return e.err }

// readListing reads an initrd the way the kernel does: cpio archives and
// compressed streams of archives in any number, with zeros between them.
func readListing(r io.Reader, name string) (*listing, error) {
	l := newListing()
	src := decompress.NewSource(r)
	var expanded int64
	for {
		if err := skipZeros(src); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read initrd %s: %w", name, err)
		}
		seg := segment{start: src.Offset()}
		prefix, err := src.Peek(decompress.MagicLen)
		if len(prefix) == 0 {
			return nil, fmt.Errorf("read initrd %s: %w", name, err)
		}
		corrupt := func(err error) error {
			if isHostError(err) {
				return fmt.Errorf("read initrd %s: %w", name, err)
			}
			var format *cpio.FormatError
			cut := errors.As(err, &format) && format.Cut || errors.Is(err, io.ErrUnexpectedEOF)
			return &corruptError{name, seg.start, err, cut}
		}
		if prefix[0] == cpioMagicLead {
			if seg.start&3 != 0 {
				return nil, corrupt(errors.New("a cpio archive has to start at a multiple of four bytes"))
			}
			n, err := l.archive(src)
			if err != nil {
				var format *cpio.FormatError
				if errors.As(err, &format) {
					return nil, &corruptError{name, seg.start + format.Offset, errors.New(format.Reason), format.Cut}
				}
				return nil, corrupt(err)
			}
			seg.expanded = n
		} else {
			seg.format = decompress.Detect(prefix)
			if seg.format == decompress.None {
				return nil, corrupt(fmt.Errorf("neither a cpio archive nor a known compression (it begins with % x)",
					prefix))
			}
			z, err := decompress.NewReader(seg.format, src)
			if err != nil {
				return nil, corrupt(err)
			}
			limited := &io.LimitedReader{R: z, N: maxExpanded - expanded}
			err = l.archives(decompress.NewSource(limited))
			z.Close()
			if err != nil {
				return nil, corrupt(err)
			}
			if limited.N == 0 {
				return nil, corrupt(fmt.Errorf("more than %d bytes when decompressed", int64(maxExpanded)))
			}
			seg.expanded = maxExpanded - expanded - limited.N
		}
		expanded += seg.expanded
		seg.end = src.Offset()
		l.segments = append(l.segments, seg)
	}
	if len(l.segments) == 0 {
		return nil, &corruptError{path: name, err: errors.New("it holds no archive")}
	}
	return l, nil
}

// checkWhole returns an error for an initrd that was cut short. What is no initramfs may be
// an image of a file system, which older kernels take for an initrd. Reading it takes its
// time, so that is done once for each content.
func (s *Store) checkWhole(ctx context.Context, file, digest string) error {
	what := "whole initrd " + digest
	if _, known := s.cache.Recall(what); known {
		return nil
	}
	f, size, _, err := openInitrd(file)
	var corrupt *corruptError
	if errors.As(err, &corrupt) {
		return err
	}
	if err != nil {
		return fmt.Errorf("read initrd %s: %w", file, reason(err))
	}
	defer f.Close()
	_, err = readListing(cache.NewReader(ctx, io.NewSectionReader(f, 0, size)), file)
	isCorrupt := errors.As(err, &corrupt)
	if err != nil && !isCorrupt || isCorrupt && corrupt.cut || ctx.Err() != nil {
		return err
	}
	s.cache.Remember(what, "yes")
	return nil
}

// isHostError reports whether an error is that of a system call, and says nothing about the
// content of a file.
func isHostError(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno)
}

// skipZeros stops at the first byte that is not zero; io.EOF at the end.
func skipZeros(src *decompress.Source) error {
	for {
		b, err := src.Peek(4096)
		if len(b) == 0 {
			return err
		}
		n := 0
		for n < len(b) && b[n] == 0 {
			n++
		}
		if _, err := io.CopyN(io.Discard, src, int64(n)); err != nil {
			return err
		}
		if n < len(b) {
			return nil
		}
	}
}

// archives reads the archives of a decompressed stream up to its end.
func (l *listing) archives(src *decompress.Source) error {
	for {
		if err := skipZeros(src); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := l.archive(src); err != nil {
			return err
		}
	}
}

// archive reads one archive and returns its length.
func (l *listing) archive(src *decompress.Source) (int64, error) {
	r := cpio.NewReader(src)
	for {
		e, err := r.Next()
		if err == io.EOF {
			return r.Offset(), nil
		}
		if err != nil {
			return 0, err
		}
		target := ""
		if e.Type() == cpio.TypeSymlink {
			var b bytes.Buffer
			if _, err := io.Copy(&b, r); err != nil {
				return 0, err
			}
			target, _, _ = strings.Cut(b.String(), "\x00")
		}
		if err := l.add(e, target); err != nil {
			return 0, err
		}
	}
}

// size returns the length of all segments when decompressed.
func (l *listing) size() int64 {
	var n int64
	for _, s := range l.segments {
		n += s.expanded
	}
	return n
}

// has reports whether one of the segments is compressed in the given way.
func (l *listing) has(f decompress.Format) bool {
	for _, s := range l.segments {
		if s.format == f {
			return true
		}
	}
	return false
}
