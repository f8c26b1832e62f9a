package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// builtKernels are the files that `make` leaves of a kernel, below the directory in which it was built. What is
// packed boots on more firmware than the vmlinux.
var builtKernels = [...]string{"arch/x86/boot/bzImage", "arch/arm64/boot/Image", "arch/riscv/boot/Image", "vmlinux"}

// builtKernel returns the file of a kernel that a profile names, and the directory in which it was built if the
// profile names that: a source tree, or the O= of a build. A path that is no directory is the file itself.
func builtKernel(path string) (file, build string, err error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, "", nil // whoever opens it has the error
	}
	for _, name := range builtKernels {
		file := filepath.Join(path, name)
		info, err := os.Stat(file)
		if err == nil && info.Mode().IsRegular() {
			return file, path, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("kernel %s: %w", file, reason(err))
		}
	}
	what := "is a directory in which no kernel was built"
	if _, err := os.Stat(filepath.Join(path, "Kconfig")); err == nil {
		what = "is a source tree in which no kernel was built (run `make` in it, or name the O= of the build)"
	}
	return "", "", fmt.Errorf("kernel %s %s: it has neither of %s", path, what, strings.Join(builtKernels[:], ", "))
}

// configHint is the remedy for a kernel that lacks what guests need, where it was built here.
func configHint(build string) string {
	if build == "" {
		return ""
	}
	return fmt.Sprintf("; in %s, `make kvm_guest.config` adds what guests need, and `make` builds it", build)
}
