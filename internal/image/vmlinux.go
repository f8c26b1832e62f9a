package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"provium/internal/arch"
	"provium/internal/image/cache"
	"provium/internal/image/kernel"
	"provium/internal/jsonerror"
)

// vmlinuxInfo is what the cache has of a kernel, beside its vmlinux.
type vmlinuxInfo struct {
	kernel.Vmlinux
	// Options are those that the kernel itself says it was built with.
	Options kernel.Options `json:"options,omitempty"`
	// Inspected is set if the uncompressed kernel could be read.
	Inspected bool `json:"inspected"`
	// Size is the length of the vmlinux in bytes, 0 if it was not kept.
	Size int64 `json:"size"`
	// Reason is why the bzImage is booted instead of its vmlinux.
	Reason string `json:"reason,omitempty"`
}

const (
	infoFile    = "info.json"
	vmlinuxFile = "vmlinux"

	unpacksFast = "it unpacks itself fast, and can be woken from suspend-to-RAM as it is"
)

// compressedNote says why a bzImage is booted as it is.
func compressedNote(file, reason string) string {
	return fmt.Sprintf("kernel %s is booted compressed: %s", file, reason)
}

// vmlinux sets k.boot and k.pvh to the uncompressed kernel. It extracts a bzImage into
// the cache at the first use.
func (s *Store) vmlinux(ctx context.Context, k *chosenKernel, h *kernel.Header) (*vmlinuxInfo, error) {
	dir, err := s.cache.Make(ctx, kindVmlinux, k.digest, func(dir string) error { return extract(dir, k, h, false) })
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.file, err)
	}
	v, err := readInfo(dir)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", k.file, err)
	}
	switch {
	case h.Kind == kernel.Image: // QEMU starts it as it is
	case h.Kind == kernel.ELF && !v.PVH:
		return nil, fmt.Errorf("kernel %s: the vmlinux has no PVH entry point (CONFIG_PVH), so QEMU cannot start it; "+
			"use the bzImage of the same build", k.file)
	case h.Kind == kernel.ELF:
		k.pvh = true
	case v.Size > 0:
		k.boot, k.pvh = filepath.Join(dir, vmlinuxFile), true
	}
	return v, nil
}

// unpacked sets k.boot and k.pvh to the uncompressed kernel, if that can be booted, however
// fast the kernel unpacks itself.
func (s *Store) unpacked(ctx context.Context, k *chosenKernel) error {
	if k.pvh || k.arch != arch.AMD64 {
		return nil
	}
	h, err := readKernelHeader(k.inside.file)
	if err != nil {
		return err
	}
	dir, err := s.cache.Make(ctx, kindVmlinux, cache.Key("unpacked", k.digest),
		func(dir string) error { return extract(dir, k, h, true) })
	if err != nil {
		return fmt.Errorf("kernel %s: %w", k.file, err)
	}
	v, err := readInfo(dir)
	if err != nil {
		return fmt.Errorf("kernel %s: %w", k.file, err)
	}
	if v.Size > 0 {
		k.boot, k.pvh = filepath.Join(dir, vmlinuxFile), true
		gone := compressedNote(k.file, unpacksFast)
		k.notes = slices.DeleteFunc(k.notes, func(note string) bool { return note == gone })
	}
	return nil
}

// readInfo returns the info of the cache entry dir.
func readInfo(dir string) (*vmlinuxInfo, error) {
	text, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil {
		return nil, err
	}
	v := new(vmlinuxInfo)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, infoFile), jsonerror.Plain(err))
	}
	if len(v.Options) == 0 {
		v.Options = nil
	}
	if v.Size < 0 {
		return nil, fmt.Errorf("read %s: a kernel of %d bytes", filepath.Join(dir, infoFile), v.Size)
	}
	return v, nil
}

// vmlinuxNote describes the cache entry dir.
func vmlinuxNote(dir string) string {
	v, err := readInfo(dir)
	if err != nil {
		return ""
	}
	if v.Reason == "" {
		return v.Version
	}
	return strings.TrimSpace(v.Version + " (booted compressed: " + v.Reason + ")")
}

// extract makes the cache entry of a kernel in dir, with fast also for a kernel that unpacks
// itself fast.
func extract(dir string, k *chosenKernel, h *kernel.Header, fast bool) error {
	v := new(vmlinuxInfo)
	in, err := openWatched(os.Open(k.inside.file))
	if err != nil {
		return reason(err)
	}
	defer in.Close()
	if h.Kind != kernel.BzImage {
		if err := v.inspect(in); err != nil {
			return err
		}
		v.Size = 0 // it is booted in place
		return errors.Join(in.err, writeInfo(dir, v))
	}
	out, err := openWatched(os.Create(filepath.Join(dir, vmlinuxFile)))
	if err != nil {
		return err
	}
	defer out.Close()
	err = h.Extract(out, in)
	if err == nil {
		err = v.inspect(out)
	}
	switch host := errors.Join(in.err, out.err); {
	case host != nil:
		return host // says nothing about the kernel
	case err != nil:
		v.Reason = err.Error()
	case !v.PVH:
		v.Reason = "it has no PVH entry point (CONFIG_PVH)"
	case !fast && !h.SlowToUnpack():
		// QEMU reloads a vmlinux at every reset, also at the one with which the
		// firmware wakes a machine from suspend-to-RAM: only a bzImage survives that.
		v.Reason = unpacksFast
	}
	if v.Reason != "" {
		v.Size = 0
		if err := os.Remove(out.Name()); err != nil {
			return err
		}
	}
	return errors.Join(out.Close(), writeInfo(dir, v))
}

// watchedFile is a file that remembers the first error of the host, whatever those make of
// it that use the file.
type watchedFile struct {
	*os.File
	err error
}

// openWatched returns a watchedFile for the results of os.Open or os.Create.
func openWatched(f *os.File, err error) (*watchedFile, error) { return &watchedFile{File: f}, err }

// watch records err and returns it.
func (f *watchedFile) watch(err error) error {
	if err != nil && err != io.EOF && f.err == nil {
		f.err = err
	}
	return err
}

func (f *watchedFile) ReadAt(p []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(p, at)
	return n, f.watch(err)
}

func (f *watchedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.watch(err)
}

// ReadFrom keeps io.Copy from writing to the file in another way.
func (f *watchedFile) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{f}, r)
}

// inspect reads the uncompressed kernel in f.
func (v *vmlinuxInfo) inspect(f *watchedFile) error {
	st, err := f.Stat()
	if f.watch(err) != nil {
		return err
	}
	x, err := kernel.Inspect(f, st.Size())
	if err != nil {
		return err
	}
	v.Vmlinux, v.Inspected, v.Size = *x, true, st.Size()
	if text, err := kernel.EmbeddedConfig(f, st.Size()); err == nil {
		v.Options = kernel.ReadOptions(text)
	}
	return nil
}

// writeInfo writes the info of the cache entry dir.
func writeInfo(dir string, v *vmlinuxInfo) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, infoFile), text, 0o644)
}
