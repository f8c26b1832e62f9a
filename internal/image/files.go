package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/image/cache"
	"provium/internal/image/cpio"
	"provium/internal/inputerror"
)

// File is put into the guest's file system before its init runs.
type File struct {
	// Path is absolute.
	Path string
	// Mode is the permission bits, 0 to 0o7777.
	Mode uint32
	// Content is taken byte by byte.
	Content []byte
}

// CheckFiles reports the first file whose path or mode cannot be used.
func CheckFiles(files []File) error {
	for i, f := range files {
		clean := path.Clean(f.Path)
		switch {
		case !strings.HasPrefix(f.Path, "/"):
			return fmt.Errorf("files[%d]: path %q is not absolute", i+1, f.Path)
		case clean == "/" || strings.HasSuffix(f.Path, "/"):
			return fmt.Errorf("files[%d]: path %q names a directory", i+1, f.Path)
		case slices.ContainsFunc(strings.Split(f.Path, "/"), func(s string) bool { return s == "." || s == ".." }):
			return fmt.Errorf("files[%d]: path %q has `.` or `..` among its parts", i+1, f.Path)
		case strings.ContainsRune(f.Path, 0) || len(f.Path) > cpio.MaxName:
			return fmt.Errorf("files[%d]: path %q has a NUL byte or more than %d bytes", i+1, f.Path, cpio.MaxName)
		case f.Mode > 0o7777:
			return fmt.Errorf("files[%d]: mode %#o of %q is out of range (0 to 0o7777)", i+1, f.Mode, f.Path)
		case int64(len(f.Content)) > cpio.MaxSize:
			return fmt.Errorf("files[%d]: %q has %d bytes, an initrd takes at most %d", i+1, f.Path, len(f.Content),
				int64(cpio.MaxSize))
		}
	}
	return nil
}

// WriteFilesArchive writes the archive that brings files to the agent, which puts
// them in place: a cpio entry could not replace a directory, and the file system
// they belong to may not be the initrd's.
func WriteFilesArchive(w io.Writer, files []File) error {
	if err := CheckFiles(files); err != nil {
		return err
	}
	items := []item{dirItem(guestFiles, 0o700)}
	var manifest bytes.Buffer
	for i, f := range files {
		n := strconv.Itoa(i)
		fmt.Fprintf(&manifest, "%04o %s %s\n", f.Mode, strconv.Quote(f.Path), n)
		items = append(items, fileItem(path.Join(guestFiles, n), 0o600, f.Content))
	}
	items = append(items, fileItem(path.Join(guestFiles, "manifest"), 0o600, manifest.Bytes()))
	return writeArchive(w, items)
}

// InitrdWith returns the path of the image's initrd, or with files of one in dir that has
// them. That is replaced by the next call.
func (img *Image) InitrdWith(ctx context.Context, dir string, files []File) (string, error) {
	if len(files) == 0 {
		return img.Initrd, nil
	}
	path := filepath.Join(dir, "initrd")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return path, img.Compose(ctx, path, files)
}

// Compose writes to dst, which must not exist, the initrd of one boot: the
// image's, followed by the boot's files. Without files the image's own initrd
// can be booted as it is. In an image without our agent, files stand where the kernel
// puts them, in the initrd.
func (img *Image) Compose(ctx context.Context, dst string, files []File) error {
	if err := CheckFiles(files); err != nil {
		return err
	}
	if img.Initrd == "" {
		return fmt.Errorf("profile `%s`: files need an initrd to stand in: inject_agent is false, and the profile has "+
			"none", img.Profile)
	}
	in, size, bootconfig, err := openInitrd(img.Initrd)
	if err != nil {
		return fmt.Errorf("compose initrd: %w", err)
	}
	defer in.Close()
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("compose initrd: %w", err)
	}
	write := writeForAgent
	if !img.Inject {
		write = writeInPlace
	}
	err = write(ctx, f, in, size, bootconfig, files)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(dst)
		return fmt.Errorf("compose initrd: %w", inputerror.Plain(err))
	}
	return nil
}

// writeForAgent writes size bytes of an initrd, followed by files for its agent.
func writeForAgent(ctx context.Context, f, in *os.File, size int64, bootconfig []byte, files []File) error {
	if err := copyFile(f, in, size); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return appendArchive(f, bootconfig, func(w io.Writer) error { return WriteFilesArchive(w, files) })
}

// writeInPlace writes size bytes of an initrd, followed by files that the kernel puts in place.
func writeInPlace(ctx context.Context, f, in *os.File, size int64, bootconfig []byte, files []File) error {
	l, err := readListing(cache.NewReader(ctx, io.NewSectionReader(in, 0, size)), in.Name())
	if err != nil {
		return err
	}
	items, err := l.placeFiles(files)
	if err != nil {
		return err
	}
	if err := copyBase(ctx, f, in, size, l); err != nil {
		return err
	}
	return appendArchive(f, bootconfig, func(w io.Writer) error { return writeArchive(w, items) })
}

// placeFiles fits files into an initrd. Parents follow the initrd's symlinks and are made
// where they are missing. A file replaces what is not a directory with content.
func (l *listing) placeFiles(files []File) ([]item, error) {
	var out []item
	add := func(it item) error {
		out = append(out, it)
		return l.add(&it.Entry, "")
	}
	for i, f := range files {
		dir, base := path.Split(f.Path)
		var made []item
		parent, err := l.ensure(dir, map[string]bool{}, &made)
		for _, it := range made {
			err = errors.Join(err, add(it))
		}
		if err != nil {
			return nil, fmt.Errorf("files[%d] (%q): %w", i+1, f.Path, err)
		}
		name := path.Join(parent, base)
		switch there, exists := l.nodes[name]; {
		case exists && there.mode&cpio.TypeMask == cpio.TypeDir && l.hasContent(name):
			return nil, fmt.Errorf("files[%d]: %q is a directory of the initrd that is not empty; without the agent "+
				"(inject_agent = false) a file can only replace an empty one", i+1, f.Path)
		case exists && there.mode&cpio.TypeMask == cpio.TypeRegular:
			// The kernel writes to a file that it has, and so to all its hard links. An
			// entry of another type has it removed.
			if err := add(dirItem(name, 0o755)); err != nil {
				return nil, err
			}
		}
		if err := add(fileItem(name, f.Mode, f.Content)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// hasContent reports whether a directory is not empty.
func (l *listing) hasContent(dir string) bool {
	for name := range l.nodes {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// copyFile fills the empty file dst with the first size bytes of src: by sharing blocks
// where the file system can, else inside the kernel, else through memory.
func copyFile(dst, src *os.File, size int64) error {
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return dst.Truncate(size)
	}
	// io.Copy between files uses copy_file_range.
	n, err := io.Copy(dst, io.NewSectionReader(src, 0, size))
	if err == nil && n != size {
		err = errors.New("the file changed while it was read")
	}
	return err
}
