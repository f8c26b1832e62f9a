package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/image/cache"
	"provium/internal/image/kernel"
)

// unwrapped is a kernel file without what is around the kernel.
type unwrapped struct {
	file string // of the kernel
	// wrapping is what was around it, "" for nothing.
	wrapping kernel.Wrapping
	initrd   string  // of a unified kernel image, "" for none
	cmdline  *string // the same
}

// Names of files in a cache entry of a kernel that was wrapped.
const (
	innerFile   = "kernel"
	cmdlineFile = "cmdline"
)

// maxWrappings is how many wrappings a kernel can have: that of a unified kernel image may be compressed.
const maxWrappings = 3

// unwrap returns the kernel in a file that QEMU cannot boot as it is. It is written into the cache.
func (s *Store) unwrap(ctx context.Context, file string) (u unwrapped, err error) {
	u.file = file
	for range maxWrappings {
		_, err = readKernelHeader(u.file)
		if !errors.Is(err, kernel.ErrFormat) {
			return u, err
		}
		if found := s.unwrapOnce(ctx, &u); found != nil {
			if !errors.Is(found, kernel.ErrFormat) {
				err = fmt.Errorf("kernel %s: %w", file, found)
			} else if u.wrapping != "" {
				err = fmt.Errorf("kernel %s: what is in it (%s) is %w", file, u.wrapping, kernel.ErrFormat)
			}
			return u, err // that of the kernel itself otherwise
		}
	}
	return u, err
}

// unwrapOnce takes one wrapping off u.file. The error is that of package kernel.
func (s *Store) unwrapOnce(ctx context.Context, u *unwrapped) error {
	in, err := os.Open(u.file)
	if err != nil {
		return reason(err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return reason(err)
	}
	w, err := kernel.FindWrapped(in, st.Size())
	if err != nil {
		return err
	}
	digest, err := s.cache.FileDigest(ctx, u.file)
	if err != nil {
		return reason(err)
	}
	dir, err := s.cache.Make(ctx, kindVmlinux, cache.Key("inside 1", digest), func(dir string) error {
		return writeParts(ctx, dir, w, in)
	})
	if err != nil {
		return err
	}
	u.file = filepath.Join(dir, innerFile)
	if u.wrapping == "" {
		u.wrapping = w.Wrapping
	}
	if w.Wrapping != kernel.Unified {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, cmdlineFile))
	if err != nil {
		return err
	}
	if cmdline := string(text); cmdline != "" {
		u.cmdline = &cmdline
	}
	initrd := filepath.Join(dir, initrdFile)
	if _, err := os.Stat(initrd); err == nil {
		u.initrd = initrd
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeParts writes what is in a wrapped kernel file into a directory.
func writeParts(ctx context.Context, dir string, w *kernel.Wrapped, in io.ReaderAt) error {
	write := func(name string, fill func(io.Writer) error) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return errors.Join(fill(f), f.Close())
	}
	if err := write(innerFile, func(to io.Writer) error { return w.WriteKernel(to, in) }); err != nil {
		return err
	}
	if w.Wrapping != kernel.Unified {
		return nil
	}
	cmdline, err := w.Cmdline(in)
	if err == nil {
		err = write(cmdlineFile, func(to io.Writer) error { _, err := io.WriteString(to, cmdline); return err })
	}
	if err != nil {
		return err
	}
	initrd, err := w.Initrd(in)
	if err != nil || initrd == nil {
		return err
	}
	return write(initrdFile, func(to io.Writer) error {
		_, err := io.Copy(to, cache.NewReader(ctx, initrd))
		return err
	})
}

// mayBeUnified reports whether a kernel is called as unified kernel images are. They have a command line.
func mayBeUnified(path string) bool { return strings.HasSuffix(path, ".efi") }

// useUnified takes the command line and the initrd of a unified kernel image where the profile says nothing else. A
// userland that is named, the built-in one too, comes with an initrd of its own.
func useUnified(spec *Spec, cmdline *CmdlineSpec, k *chosenKernel) {
	if spec.Initrd == "" && spec.Userland.Kind == "" {
		spec.Initrd = k.inside.initrd
	}
	if cmdline.Cmdline == nil && cmdline.File == nil {
		cmdline.Cmdline = k.inside.cmdline
	}
}
