package recording

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Endings of the names of a recording's files.
const (
	ManifestFile = ".json"
	LogFile      = ".log.zst"
	StateFile    = ".state"
	MemoryFile   = ".memory.zst"
)

// Prefix begins the names of a recording's files.
const Prefix = "guest-"

// Save passes the files of a complete recording to add. It returns an error for a log that cannot be run again.
// vmlinux is the file with the kernel's symbols, "" for none; panicked says that the kernel has.
func (t *Tape) Save(vmlinux string, panicked bool, add func(name, what string, write func(io.Writer) error)) error {
	m, err := t.Recorder.Complete(t.Manifest)
	if err != nil {
		return err
	}
	info, err := t.Log.Stat()
	if err != nil {
		return err
	}
	m.Panicked, m.Vmlinux, m.StateLen, m.LogLen = panicked, vmlinux, t.StateLen, info.Size()
	base := Prefix + m.VM
	what := "all that has reached the guest of vm `" + m.VM + "`, as QEMU reads it when it is unpacked"
	add(base+LogFile, what, func(w io.Writer) error {
		sum := sha256.New()
		z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return err
		}
		_, err = io.Copy(io.MultiWriter(z, sum), io.NewSectionReader(t.Log, 0, m.LogLen))
		m.LogDigest = hex.EncodeToString(sum.Sum(nil))
		return errors.Join(err, z.Close())
	})
	add(base+StateFile, "the devices of that guest at the beginning", func(w io.Writer) error {
		sum := sha256.New()
		state, err := beginning(io.NewSectionReader(t.State, t.StateAt, t.StateLen), t.StateLen)
		if err == nil {
			_, err = io.MultiWriter(w, sum).Write(state)
		}
		m.StateDigest = hex.EncodeToString(sum.Sum(nil))
		return err
	})
	add(base+MemoryFile, "its memory then", func(w io.Writer) error { return t.writeMemory(w, m.Memory) })
	add(base+ManifestFile, "the recording of vm `"+m.VM+"`, for `provium debug`", m.Write)
	return nil
}

// writeMemory writes the memory of size bytes from which the guest began, compressed.
func (t *Tape) writeMemory(to io.Writer, size int64) error {
	w, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	at := int64(0)
	for _, c := range t.Changed {
		if _, err := io.Copy(w, io.NewSectionReader(t.Memory, at, c.At-at)); err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(t.State, c.At, c.Length)); err != nil {
			return err
		}
		at = c.At + c.Length
	}
	if _, err := io.Copy(w, io.NewSectionReader(t.Memory, at, size-at)); err != nil {
		return err
	}
	return w.Close()
}
