package guestmem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// noteStart is how the note begins, at the start of a page.
const noteStart = "OSRELEASE="

const (
	maxNote       = PageSize // the kernel has one page for it
	maxLines      = 1000
	maxCandidates = 64 // pages that look like a note and are tried
)

// ErrNoKernel is returned where no kernel is found that describes itself: none has started
// yet, or the guest is no x86-64 Linux.
var ErrNoKernel = errors.New("no running Linux kernel was found in the guest's memory")

// Note is what a kernel says of itself, as in Documentation/admin-guide/kdump/vmcoreinfo.rst.
type Note struct {
	At      int64  // physical address
	Text    []byte // all of it
	Release string // as `uname -r`

	values map[string]uint64 // "SYMBOL(prb)"; signed numbers in two's complement
}

// Symbol returns the address of a variable of the kernel.
func (n *Note) Symbol(name string) (uint64, bool) {
	v, ok := n.values["SYMBOL("+name+")"]
	return v, ok
}

// Offset returns where in a structure a field is: Offset("printk_info.seq").
func (n *Note) Offset(field string) (int64, bool) { return n.small("OFFSET(" + field + ")") }

// Size returns the size of a type.
func (n *Note) Size(name string) (int64, bool) { return n.small("SIZE(" + name + ")") }

// Number returns a number that the kernel names.
func (n *Note) Number(name string) (int64, bool) {
	v, ok := n.values["NUMBER("+name+")"]
	return int64(v), ok
}

// KernelOffset is how far the kernel was moved from the addresses of its vmlinux.
func (n *Note) KernelOffset() uint64 { return n.values["KERNELOFFSET"] }

// small returns a value that must be between 0 and 64 KiB.
func (n *Note) small(name string) (int64, bool) {
	v, ok := n.values[name]
	return int64(v), ok && v <= 64<<10
}

// ParseNote reads the text of a note, which ends at the first NUL.
func ParseNote(text []byte) (*Note, error) {
	text = text[:min(len(text), maxNote)]
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	n := &Note{Text: bytes.Clone(text), values: map[string]uint64{}}
	lines := 0
	for line := range strings.Lines(string(text)) {
		if lines++; lines > maxLines {
			return nil, errors.New("the note has too many lines")
		}
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			continue
		}
		if key == "OSRELEASE" {
			n.Release = value
			continue
		}
		if v, ok := noteValue(key, value); ok {
			n.values[key] = v
		}
	}
	for _, need := range []string{"KERNELOFFSET", "NUMBER(phys_base)"} {
		if _, ok := n.values[need]; !ok {
			return nil, fmt.Errorf("the note has no %s", need)
		}
	}
	if n.Release == "" {
		return nil, errors.New("the note has no release")
	}
	return n, nil
}

// noteValue reads the value of a line: addresses are hexadecimal, other numbers decimal.
func noteValue(key, value string) (uint64, bool) {
	if strings.HasPrefix(key, "SYMBOL(") || key == "KERNELOFFSET" {
		v, err := strconv.ParseUint(value, 16, 64)
		return v, err == nil
	}
	if v, err := strconv.ParseUint(value, 10, 64); err == nil {
		return v, true
	}
	v, err := strconv.ParseInt(value, 10, 64)
	return uint64(v), err == nil
}

// Find finds the kernel that runs in a memory. The addresses in hints, where notes were found
// before, are tried first. accept is asked whether a kernel is the one, since anybody in the
// guest can write what looks like a note; nil accepts the first.
func Find(ctx context.Context, source Source, hints []int64, accept func(*Kernel) bool) (*Kernel, error) {
	page := make([]byte, maxNote)
	tried := map[int64]bool{}
	try := func(at int64) *Kernel {
		if tried[at] || len(tried) >= maxCandidates {
			return nil
		}
		tried[at] = true
		if n, err := source.ReadAt(page, at); err != nil || n < len(page) || !bytes.HasPrefix(page, []byte(noteStart)) {
			return nil
		}
		note, err := ParseNote(page)
		if err != nil {
			return nil
		}
		note.At = at
		k, err := NewKernel(source, note)
		if err != nil || accept != nil && !accept(k) {
			return nil
		}
		return k
	}
	for _, at := range hints[:min(len(hints), maxCandidates/2)] {
		if k := try(at); k != nil {
			return k, nil
		}
	}
	var found *Kernel
	stop := errors.New("found")
	start := []byte(noteStart)
	err := source.Scan(ctx, func(at int64, p []byte) error {
		for i := 0; i+len(start) <= len(p); i += PageSize {
			if p[i] != start[0] || !bytes.HasPrefix(p[i:], start) {
				continue
			}
			if found = try(at + int64(i)); found != nil {
				return stop
			}
		}
		return nil
	})
	switch {
	case found != nil:
		return found, nil
	case err != nil:
		return nil, err
	}
	return nil, ErrNoKernel
}
