package kernel

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"provium/internal/image/decompress"
)

// Wrapping is what there is around a kernel.
type Wrapping string

// The wrappings that QEMU does not undo.
const (
	Compressed Wrapping = "compressed"           // a whole kernel file: vmlinuz.gz, Image.zst
	ZBoot      Wrapping = "EFI zboot"            // an EFI program that unpacks an Image
	Unified    Wrapping = "unified kernel image" // an EFI program with a kernel, a command line and an initrd
)

// Limits on the other parts of a unified kernel image, in bytes.
const (
	maxWrappedInitrd  = 4 << 30
	maxWrappedCmdline = 64 << 10
)

// Wrapped is a kernel file with something around the kernel.
type Wrapped struct {
	Wrapping Wrapping

	kernel, initrd, cmdline part
	isPacked                bool // the kernel is compressed
}

// part is a piece of a file.
type part struct{ at, size int64 }

func (p part) reader(r io.ReaderAt) *io.SectionReader { return io.NewSectionReader(r, p.at, p.size) }

// The header of an EFI zboot image, from the kernel's drivers/firmware/efi/libstub/zboot-header.S.
const (
	zbootMagic    = "zimg"
	offZBootMagic = 4
	offZBootStart = 8
	offZBootSize  = 12
	zbootLen      = 64
)

// FindWrapped returns what there is around the kernel in the file r of the given size. The error is ErrFormat for a
// file that is nothing of that kind.
func FindWrapped(r io.ReaderAt, size int64) (*Wrapped, error) {
	var h [zbootLen]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	head := h[:n]
	switch {
	case decompress.Detect(head) != decompress.None:
		return &Wrapped{Wrapping: Compressed, kernel: part{0, size}, isPacked: true}, nil
	case !bytes.HasPrefix(head, []byte("MZ")) || n < len(h):
		return nil, ErrFormat
	case string(h[offZBootMagic:offZBootStart]) == zbootMagic:
		p := part{int64(binary.LittleEndian.Uint32(h[offZBootStart:])),
			int64(binary.LittleEndian.Uint32(h[offZBootSize:]))}
		if p.size > size-p.at || p.size == 0 {
			return nil, fmt.Errorf("the EFI zboot image is cut short: %d bytes of %d; make or copy it again", size,
				p.at+p.size)
		}
		return &Wrapped{Wrapping: ZBoot, kernel: p, isPacked: true}, nil
	}
	return unified(r, size)
}

// unified finds the sections of a unified kernel image (UAPI group specification 5).
func unified(r io.ReaderAt, size int64) (*Wrapped, error) {
	f, err := pe.NewFile(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, ErrFormat
	}
	defer f.Close()
	w := &Wrapped{Wrapping: Unified}
	for name, to := range map[string]*part{".linux": &w.kernel, ".initrd": &w.initrd, ".cmdline": &w.cmdline} {
		s := f.Section(name) // the first: those of further profiles follow
		if s == nil {
			continue
		}
		*to = part{int64(s.Offset), int64(s.Size)}
		if s.VirtualSize > 0 && s.VirtualSize < s.Size {
			to.size = int64(s.VirtualSize) // what follows fills the last block
		}
		if to.size > size-to.at {
			return nil, fmt.Errorf("the unified kernel image is cut short: its section %s ends at %d, and there are "+
				"%d bytes; make or copy it again", name, to.at+to.size, size)
		}
	}
	if w.kernel.size == 0 {
		return nil, ErrFormat
	}
	return w, nil
}

// WriteKernel writes the kernel without what is around it. That may be a wrapped one once more.
func (w *Wrapped) WriteKernel(to io.Writer, r io.ReaderAt) error {
	in := io.Reader(w.kernel.reader(r))
	if w.isPacked {
		src := decompress.NewSource(in)
		prefix, err := src.Peek(decompress.MagicLen)
		if len(prefix) == 0 {
			return fmt.Errorf("%s kernel: %w", w.Wrapping, err)
		}
		format := decompress.Detect(prefix)
		if format == decompress.None {
			return fmt.Errorf("%s kernel: unknown compression (it begins with % x)", w.Wrapping, prefix)
		}
		z, err := decompress.NewReader(format, src)
		if err != nil {
			return fmt.Errorf("%s kernel: %w", w.Wrapping, err)
		}
		defer z.Close()
		in = z
	}
	n, err := io.Copy(to, io.LimitReader(in, MaxVmlinux+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s kernel is cut short; make or copy it again", w.Wrapping)
	case err != nil:
		return fmt.Errorf("%s kernel: %w", w.Wrapping, err)
	case n > MaxVmlinux:
		return fmt.Errorf("%s kernel: more than %d bytes", w.Wrapping, int64(MaxVmlinux))
	}
	return nil
}

// Initrd returns the initrd of a unified kernel image, nil if it has none.
func (w *Wrapped) Initrd(r io.ReaderAt) (io.Reader, error) {
	switch {
	case w.initrd.size == 0:
		return nil, nil
	case w.initrd.size > maxWrappedInitrd:
		return nil, fmt.Errorf("the initrd of the unified kernel image has %d bytes", w.initrd.size)
	}
	return w.initrd.reader(r), nil
}

// Cmdline returns the command line of a unified kernel image, "" if it has none.
func (w *Wrapped) Cmdline(r io.ReaderAt) (string, error) {
	if w.cmdline.size > maxWrappedCmdline {
		return "", fmt.Errorf("the command line of the unified kernel image has %d bytes", w.cmdline.size)
	}
	text, err := io.ReadAll(w.cmdline.reader(r))
	if err != nil {
		return "", err
	}
	return string(bytes.Trim(text, "\x00 \t\r\n")), nil
}
