package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"provium/internal/image/cache"
	"provium/internal/image/kernel"
)

// vmlinuxInfo is what the cache has of a kernel, beside its vmlinux.
type vmlinuxInfo struct {
	kernel.Vmlinux
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
	maxInfo     = 64 << 10
)

// vmlinux sets k.boot and k.pvh to the uncompressed kernel. It extracts a bzImage into
// the cache at the first use.
func (s *Store) vmlinux(ctx context.Context, k *chosenKernel, h *kernel.Header) (*vmlinuxInfo, error) {
	dir := s.cache.Path(kindVmlinux, k.digest)
	v := readInfo(dir)
	if v == nil {
		unlock, err := s.cache.Lock(ctx, kindVmlinux)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if v = readInfo(dir); v == nil {
			// An entry that is there and not valid was damaged from outside.
			if err := os.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("repair image cache: %w", err)
			}
			if v, err = s.extract(k, h); err != nil {
				return nil, fmt.Errorf("kernel %s: %w", k.file, err)
			}
		}
	}
	cache.Touch(dir)
	switch {
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

// readInfo returns the info of the cache entry dir, nil if the entry is missing or
// damaged.
func readInfo(dir string) *vmlinuxInfo {
	st, err := os.Stat(filepath.Join(dir, infoFile))
	if err != nil || st.Size() > maxInfo {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, infoFile))
	v := new(vmlinuxInfo)
	if err != nil || json.Unmarshal(text, v) != nil {
		return nil
	}
	if v.Size > 0 {
		st, err := os.Stat(filepath.Join(dir, vmlinuxFile))
		if err != nil || st.Size() != v.Size {
			return nil
		}
	}
	return v
}

// vmlinuxNote describes the cache entry dir.
func vmlinuxNote(dir string) string {
	var v vmlinuxInfo
	text, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err != nil || json.Unmarshal(text, &v) != nil {
		return ""
	}
	if v.Reason == "" {
		return v.Version
	}
	return strings.TrimSpace(v.Version + " (booted compressed: " + v.Reason + ")")
}

// extract makes the cache entry of a kernel.
func (s *Store) extract(k *chosenKernel, h *kernel.Header) (*vmlinuxInfo, error) {
	v := new(vmlinuxInfo)
	err := s.cache.Install(kindVmlinux, k.digest, func(tmp string) error {
		if err := os.Mkdir(tmp, 0o755); err != nil {
			return err
		}
		in, err := os.Open(k.file)
		if err != nil {
			return reason(err)
		}
		defer in.Close()
		if h.Kind == kernel.ELF {
			if err := v.inspect(in); err != nil {
				return err
			}
			return writeInfo(tmp, v)
		}
		out, err := os.Create(filepath.Join(tmp, vmlinuxFile))
		if err != nil {
			return err
		}
		defer out.Close()
		err = h.Extract(out, in)
		if err == nil {
			err = v.inspect(out)
		}
		switch {
		case err != nil:
			v.Reason = err.Error()
		case !v.PVH:
			v.Reason = "it has no PVH entry point (CONFIG_PVH)"
		case !h.SlowToUnpack():
			// QEMU reloads a vmlinux at every reset, also at the one with which the
			// firmware wakes a machine from suspend-to-RAM: only a bzImage survives that.
			v.Reason = "it unpacks itself fast, and can be woken from suspend-to-RAM as it is"
		}
		if v.Reason != "" {
			v.Size = 0
			if err := os.Remove(out.Name()); err != nil {
				return err
			}
		}
		// It must be on the disk before the entry is: its size would not show a hole.
		return errors.Join(out.Sync(), out.Close(), writeInfo(tmp, v))
	})
	return v, err
}

// inspect reads the uncompressed kernel in f.
func (v *vmlinuxInfo) inspect(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	x, err := kernel.Inspect(f, st.Size())
	if err != nil {
		return err
	}
	v.Vmlinux, v.Inspected, v.Size = *x, true, st.Size()
	return nil
}

// writeInfo writes the info of the cache entry dir.
func writeInfo(dir string, v *vmlinuxInfo) error {
	// An explicit vmlinux is booted in place: the entry has only its info.
	if _, err := os.Stat(filepath.Join(dir, vmlinuxFile)); err != nil {
		v.Size = 0
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, infoFile), text, 0o644)
}
