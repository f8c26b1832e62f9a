// Package shaped says what a machine of some shape boots.
//
// It resolves no images and starts nothing. Start with Image.
package shaped

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"provium/internal/arch"
	"provium/internal/image"
	"provium/internal/machine"
	"provium/internal/ready"
	"provium/internal/topology"
)

// Image returns what a machine of that shape boots, and whether it can have the shape. Firmware that looks for it by
// itself gets nothing. UEFI starts no vmlinux, and one that QEMU starts does not learn of a text screen, and finds no
// table of ACPI's where there is a TPM: they get the kernel as it was found. machineType is "" for that of the
// architecture.
func Image(s machine.Shape, machineType string, opts *topology.BootOpts, spec image.Spec, hasDisks bool,
	wait ready.Condition, resolve func() (*image.Image, error)) (*image.Image, error) {
	var img *image.Image
	var err error
	switch {
	case !s.IsFromDisk():
		img, err = resolve()
	case opts.Cmdline != nil || opts.CmdlineAppend != "" || len(opts.Files) > 0:
		err = errors.New("boot_from: a guest that boots from its disk gets neither a command line nor files")
	case !hasDisks:
		err = errors.New("boot_from: the VM has no disk to boot from")
	default:
		img = &image.Image{Profile: spec.Profile, Key: machine.FromDisk, Arch: cmp.Or(spec.Arch, arch.AMD64)}
	}
	if err == nil {
		err = checkInit(img, opts, wait)
	}
	if err == nil {
		err = s.Check(cmp.Or(machineType, cmp.Or(img.Arch, arch.AMD64).Machine), opts.VCPUs())
	}
	if err == nil && s.HasTPM() && img.PVH && img.Kernel == img.KernelFile {
		err = errors.New("tpm: a vmlinux that QEMU starts does not find it; boot a bzImage")
	}
	asItIs := !s.IsUEFI() && !s.HasDisplay() && !s.HasTPM()
	if err != nil || asItIs || img.KernelFile == "" || img.KernelFile == img.Kernel {
		return img, err
	}
	asFound := *img
	asFound.Kernel = img.KernelFile
	return &asFound, nil
}

// checkInit returns an error for a boot that waits for systemd in a userland that cannot have it.
func checkInit(img *image.Image, opts *topology.BootOpts, wait ready.Condition) error {
	u := img.Userland
	if wait.Kind != ready.Systemd || u == nil || u.HasInit || u.Filesystem != "" {
		return nil
	}
	cmdline := img.Cmdline
	if opts.Cmdline != nil {
		cmdline = *opts.Cmdline
	}
	for word := range strings.FieldsSeq(cmdline + " " + opts.CmdlineAppend) {
		if strings.HasPrefix(word, "init=") {
			return nil
		}
	}
	return fmt.Errorf("ready: `systemd` will not come: userland `%s` has no /sbin/init, and its guests have the small "+
		"init of the agent; name one by `init=PATH` on the command line, or wait for something else", u.Source)
}

// Files returns files of a boot as the initrd gets them.
func Files(files []topology.BootFile) []image.File {
	out := make([]image.File, len(files))
	for i, f := range files {
		mode := uint32(0o644)
		if f.HasMode {
			mode = f.Mode
		}
		out[i] = image.File{Path: f.Path, Content: []byte(f.Content), Mode: mode}
	}
	return out
}
