// Package pagemap finds what a process has changed of a file that it has mapped copy-on-write. It reads
// the memory of processes, and changes nothing.
package pagemap

import (
	"context"
	"encoding/binary"
	"io"
	"os"
)

// pageSize is what memory is changed in, in bytes.
const pageSize = 4096

// Bits of an entry of /proc/PID/pagemap (Linux Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageOfFile  = 1 << 61
)

// VisitPrivate calls visit for each run of private pages among the size bytes of a process's memory
// from base on, in order. mem and pagemap are its files of these names in /proc. p is valid during the
// call only.
func VisitPrivate(ctx context.Context, mem, pagemap *os.File, base, size int64,
	visit func(offset int64, p []byte) error) error {
	const step = 32 << 10 // pages looked at in one read
	entries := make([]byte, 8*step)
	buf := make([]byte, 1<<20)
	pages := (size + pageSize - 1) / pageSize
	for at := int64(0); at < pages; at += step {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n := min(step, pages-at)
		if _, err := pagemap.ReadAt(entries[:8*n], (base/pageSize+at)*8); err != nil && err != io.EOF {
			return err
		}
		err := privateRuns(entries[:8*n], len(buf)/pageSize, func(first, count int) error {
			offset := (at + int64(first)) * pageSize
			p := buf[:count*pageSize]
			if _, err := mem.ReadAt(p, base+offset); err != nil {
				return err
			}
			return visit(offset, p)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// privateRuns finds runs of private pages of at most limit pages.
func privateRuns(entries []byte, limit int, visit func(first, count int) error) error {
	first, count := 0, 0
	for i := 0; i <= len(entries)/8; i++ {
		private := false
		if i < len(entries)/8 {
			e := binary.LittleEndian.Uint64(entries[8*i:])
			private = e&(pagePresent|pageSwapped) != 0 && e&pageOfFile == 0
		}
		if count > 0 && (!private || count == limit) {
			if err := visit(first, count); err != nil {
				return err
			}
			count = 0
		}
		if private {
			if count == 0 {
				first = i
			}
			count++
		}
	}
	return nil
}
