package userland

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"provium/internal/erofs"
)

// ConvertProgram writes images of the format qcow2 as raw ones.
const ConvertProgram = "qemu-img"

// diskFile is the name of a raw image in the cache.
const diskFile = "disk"

// headOf returns the beginning of a file.
func headOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, superblocks))
	return head, reason(err)
}

// ofDisk makes the index of the root file system in an image of a disk, which guests have as it is.
func (m *Maker) ofDisk(ctx context.Context, u *Userland) error {
	path, err := m.raw(ctx, u.Source.Path)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, reason(err))
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	v, err := findVolume(f, st.Size)
	if err != nil {
		return err
	}
	if v.size <= erofs.BlockSize || v.size > erofs.MaxSize {
		return fmt.Errorf("its file system has %d bytes", v.size)
	}
	first := make([]byte, erofs.BlockSize)
	if _, err := f.ReadAt(first, v.at); err != nil {
		return fmt.Errorf("%s: %w", path, reason(err))
	}
	s := sourceOf(path, &st)
	u.Filesystem, u.Partition, u.Size = v.filesystem, v.partition, v.size
	u.Key = hex.EncodeToString(hashOf(fmt.Sprintf("disk 1 %+v %+v", s, v)))
	dir, err := m.Cache.Make(ctx, KindIndex, u.Key, func(dir string) error {
		rest := extent{erofs.BlockSize, v.size - erofs.BlockSize, 0, v.at + erofs.BlockSize}
		return writeParts(filepath.Join(dir, indexFile), first, v.size, []extent{rest}, []source{s})
	})
	u.Index = filepath.Join(dir, indexFile)
	return err
}

func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:20]
}

// raw returns the path of a raw image with the contents of one of any format.
func (m *Maker) raw(ctx context.Context, path string) (string, error) {
	head, err := headOf(path)
	if err != nil || !isQcow2(head) {
		return path, err
	}
	if err := checkQcow2(head); err != nil {
		return "", err
	}
	if m.Runner == nil {
		return "", fmt.Errorf("%s, which reads images of the format qcow2, cannot be started here", ConvertProgram)
	}
	key, err := m.Cache.FileDigest(ctx, path)
	if err != nil {
		return "", reason(err)
	}
	dir, err := m.Cache.Make(ctx, KindArchive, key, func(dir string) error {
		_, stderr, err := m.Runner.Run(ctx, dir, []string{"LC_ALL=C"}, ConvertProgram, "convert", "-f", "qcow2", "-O",
			"raw", path, filepath.Join(dir, diskFile))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, exec.ErrNotFound):
			return fmt.Errorf("%s is not installed (package qemu-utils)", ConvertProgram)
		}
		return programError(ConvertProgram, err, ": "+strings.TrimSpace(string(stderr[:min(len(stderr), 500)])))
	})
	return filepath.Join(dir, diskFile), err
}

// checkQcow2 refuses an image that has contents of other files, which a guest is not to read.
func checkQcow2(head []byte) error {
	be := binary.BigEndian
	switch {
	case len(head) < 104:
		return errors.New("it is a qcow2 image that was cut short")
	case be.Uint32(head[4:]) < 2 || be.Uint32(head[4:]) > 3:
		return fmt.Errorf("it is a qcow2 image of version %d (2 and 3 are known)", be.Uint32(head[4:]))
	case be.Uint64(head[8:]) != 0:
		return errors.New("it is a qcow2 image over another file; `qemu-img convert -O qcow2` makes a whole one of it")
	case be.Uint32(head[4:]) == 3 && be.Uint64(head[72:])&4 != 0:
		return errors.New("it is a qcow2 image whose contents are in another file")
	case be.Uint64(head[24:]) > erofs.MaxSize:
		return fmt.Errorf("it is a qcow2 image of %d bytes", be.Uint64(head[24:]))
	}
	return nil
}
