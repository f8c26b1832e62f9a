package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A bootconfig at the end of an initrd is its text, the length and the sum of that, 32 bits each, and a mark (the
// kernel's Documentation/admin-guide/bootconfig.rst). The kernel looks for it at the very end.
const (
	bootconfigMark = "#BOOTCONFIG\n"
	bootconfigMax  = 32 << 10 // bytes of the text, as in the kernel
	bootconfigTail = 8 + len(bootconfigMark)
)

// splitBootconfig returns how many bytes of an initrd of the given size stand in front of its bootconfig, and the
// bootconfig with all that belongs to it; size and nil without one.
func splitBootconfig(r io.ReaderAt, size int64) (int64, []byte, error) {
	// Up to three bytes may follow.
	tail := make([]byte, min(size, int64(bootconfigTail)+3))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return 0, nil, err
	}
	at := bytes.LastIndex(tail, []byte(bootconfigMark))
	if at < 0 {
		return size, nil, nil
	}
	if at < 8 {
		return 0, nil, errors.New("its bootconfig is damaged: it has no length")
	}
	length, sum := binary.LittleEndian.Uint32(tail[at-8:]), binary.LittleEndian.Uint32(tail[at-4:])
	end := size - int64(len(tail)-at) - 8
	if length >= bootconfigMax || int64(length) > end {
		return 0, nil, fmt.Errorf("its bootconfig is damaged: a length of %d bytes", length)
	}
	begin := end - int64(length)
	block := make([]byte, int(length)+bootconfigTail)
	if _, err := r.ReadAt(block, begin); err != nil {
		return 0, nil, err
	}
	got := uint32(0)
	for _, b := range block[:length] {
		got += uint32(b)
	}
	if got != sum {
		return 0, nil, errors.New("its bootconfig is damaged: the checksum is wrong")
	}
	return begin, block, nil
}

// openInitrd opens an initrd, and returns how long it is without its bootconfig, and that.
func openInitrd(path string) (f *os.File, size int64, bootconfig []byte, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, 0, nil, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() > maxInitrd {
		err = fmt.Errorf("initrd %s has %d bytes, at most %d are taken", path, st.Size(), int64(maxInitrd))
	}
	if err == nil {
		if size, bootconfig, err = splitBootconfig(f, st.Size()); err != nil && !isHostError(err) {
			err = &corruptError{path: path, offset: st.Size(), err: err}
		}
	}
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return f, size, bootconfig, nil
}
