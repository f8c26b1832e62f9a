package image

import (
	"errors"
	"fmt"
	"os"

	"provium/internal/image/kernel"
	"provium/internal/inputerror"
)

// CheckMemory returns an error when a guest's memory of that many bytes cannot hold the
// kernel and the initrd. A guest needs more than what it accepts. initrd may be empty. A
// file of an unknown format counts with its size.
func CheckMemory(kernelPath, initrd string, memory int64) error {
	f, err := os.Open(kernelPath)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	needs, err := kernel.End(f, info.Size())
	if errors.Is(err, kernel.ErrFormat) {
		needs, err = info.Size(), nil
	}
	if err != nil {
		return fmt.Errorf("kernel `%s`: %w", kernelPath, inputerror.Plain(err))
	}
	var size int64
	if initrd != "" {
		info, err := os.Stat(initrd)
		if err != nil {
			return err
		}
		size = info.Size()
	}
	if needs+size <= memory {
		return nil
	}
	return fmt.Errorf("memory is too small: %s, and the kernel takes the first %s and the initrd %s; "+
		"a guest needs at least %s, and more for what runs in it", mebibytes(memory), mebibytes(needs), mebibytes(size),
		mebibytes(needs+size))
}

// mebibytes returns a size for people.
func mebibytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
