package run

import (
	"context"
	"os"
	"path/filepath"

	"provium/internal/image"
	"provium/internal/lab"
	"provium/internal/localvmm"
	"provium/internal/qemu"
)

// bootNothing makes h a host whose machines boot no kernel (--vmm local).
func bootNothing(h *lab.Host, programs qemu.Starter) {
	h.Local = true
	h.Starter = &localvmm.Starter{Programs: programs}
	h.Images = localImages{h.Images}
	for _, p := range h.Profiles {
		p.Accel = "tcg" // no host lacks it
	}
}

// localImages resolves every profile to an image without content.
type localImages struct{ lab.Images }

// Resolve returns an image of two empty files.
func (localImages) Resolve(_ context.Context, spec image.Spec) (*image.Image, error) {
	return &image.Image{Profile: spec.Profile, Kernel: os.DevNull, Initrd: os.DevNull, Inject: true, Key: "local"}, nil
}

// localFixtures returns the directory of the fixtures of one file: what is saved
// without a kernel is of no use to other runs.
func localFixtures(temp string) string { return filepath.Join(temp, "fixtures") }
