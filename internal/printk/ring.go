package printk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Memory is the virtual memory of a kernel, with what the kernel says of its types.
type Memory interface {
	Read(p []byte, address uint64) error
	Symbol(name string) (address uint64, ok bool)
	Offset(field string) (offset int64, ok bool)
	Size(name string) (size int64, ok bool)
}

// What a ring may have. Kernels are built with at most 32 MiB of text (LOG_BUF_SHIFT 25) and
// one descriptor for each 32 bytes of it.
const (
	maxCountBits = 20
	maxSizeBits  = 25
	maxText      = 16 << 20 // bytes of all texts that are returned; the latest ones
	batch        = 256      // descriptors that are read at once
)

// States of a descriptor: the upper two bits of its number (kernel/printk/printk_ringbuffer.h).
const (
	committed = 1
	finalized = 2
)

const (
	stateShift = 62
	idMask     = 1<<stateShift - 1
)

// ErrDamaged is returned for a ring that cannot be one.
var ErrDamaged = errors.New("the kernel's log in the guest's memory is damaged")

// layout are the offsets and sizes of the kernel's types.
type layout struct {
	descRing, textRing            int64
	countBits, descs, infos       int64
	headID, tailID                int64
	descSize, stateVar, textBlock int64
	begin, next                   int64
	infoSize, seq, time, textLen  int64
	sizeBits, data                int64
	counter                       int64
	sizeOfRing                    int64
}

// readLayout asks the kernel for all of a layout.
func readLayout(m Memory) (l layout, err error) {
	for _, f := range []struct {
		to   *int64
		name string
	}{
		{&l.descRing, "printk_ringbuffer.desc_ring"}, {&l.textRing, "printk_ringbuffer.text_data_ring"},
		{&l.countBits, "prb_desc_ring.count_bits"}, {&l.descs, "prb_desc_ring.descs"},
		{&l.infos, "prb_desc_ring.infos"}, {&l.headID, "prb_desc_ring.head_id"},
		{&l.tailID, "prb_desc_ring.tail_id"}, {&l.stateVar, "prb_desc.state_var"},
		{&l.textBlock, "prb_desc.text_blk_lpos"}, {&l.begin, "prb_data_blk_lpos.begin"},
		{&l.next, "prb_data_blk_lpos.next"}, {&l.seq, "printk_info.seq"}, {&l.time, "printk_info.ts_nsec"},
		{&l.textLen, "printk_info.text_len"}, {&l.sizeBits, "prb_data_ring.size_bits"},
		{&l.data, "prb_data_ring.data"}, {&l.counter, "atomic_long_t.counter"},
	} {
		var ok bool
		if *f.to, ok = m.Offset(f.name); !ok {
			return l, fmt.Errorf("the kernel does not say where %s is; it is older than 5.10, or no Linux", f.name)
		}
	}
	for _, s := range []struct {
		to   *int64
		name string
		need int64
	}{
		{&l.sizeOfRing, "printk_ringbuffer", max(l.descRing, l.textRing) + 8},
		{&l.descSize, "prb_desc", max(l.stateVar+l.counter, l.textBlock+max(l.begin, l.next)) + 8},
		{&l.infoSize, "printk_info", max(l.seq, l.time, l.textLen) + 8},
	} {
		var ok bool
		if *s.to, ok = m.Size(s.name); !ok || *s.to < s.need || *s.to > 4096 {
			return l, fmt.Errorf("%w: the size of %s is %d", ErrDamaged, s.name, *s.to)
		}
	}
	return l, nil
}

// ring is where the parts of a ring are.
type ring struct {
	layout
	m            Memory
	count        uint64 // descriptors, a power of two
	size         uint64 // bytes of text, a power of two
	descsAt      uint64
	infosAt      uint64
	textAt       uint64
	head, tail   uint64 // numbers of the newest and the oldest descriptor
	cleared      uint64 // the first message since the log was cleared
	left         int    // bytes of text that may still be read
	bufDescs     []byte
	bufDescsNext []byte
	bufInfos     []byte
}

func (r *ring) uint64(at uint64) (uint64, error) {
	var raw [8]byte
	err := r.m.Read(raw[:], at)
	return binary.LittleEndian.Uint64(raw[:]), err
}

func (r *ring) uint32(at uint64) (uint32, error) {
	var raw [4]byte
	err := r.m.Read(raw[:], at)
	return binary.LittleEndian.Uint32(raw[:]), err
}

// open reads the heads of the ring and checks them.
func open(m Memory) (*ring, error) {
	l, err := readLayout(m)
	if err != nil {
		return nil, err
	}
	at, ok := m.Symbol("prb")
	if !ok {
		return nil, errors.New("the kernel does not say where its log is; it is older than 5.10, or no Linux")
	}
	r := &ring{layout: l, m: m, left: maxText}
	base, err := r.uint64(at)
	if err != nil {
		return nil, err
	}
	descRing, textRing := base+uint64(l.descRing), base+uint64(l.textRing)
	countBits, err1 := r.uint32(descRing + uint64(l.countBits))
	sizeBits, err2 := r.uint32(textRing + uint64(l.sizeBits))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if countBits == 0 || countBits > maxCountBits || sizeBits == 0 || sizeBits > maxSizeBits {
		return nil, fmt.Errorf("%w: 2^%d messages, 2^%d bytes", ErrDamaged, countBits, sizeBits)
	}
	r.count, r.size = 1<<countBits, 1<<sizeBits
	for _, v := range []struct {
		to *uint64
		at uint64
	}{
		{&r.descsAt, descRing + uint64(l.descs)}, {&r.infosAt, descRing + uint64(l.infos)},
		{&r.textAt, textRing + uint64(l.data)},
		{&r.tail, descRing + uint64(l.tailID+l.counter)}, {&r.head, descRing + uint64(l.headID+l.counter)},
	} {
		if *v.to, err = r.uint64(v.at); err != nil {
			return nil, err
		}
	}
	r.head, r.tail = r.head&idMask, r.tail&idMask
	if (r.head-r.tail)&idMask >= r.count {
		return nil, fmt.Errorf("%w: messages %#x to %#x in a ring of %d", ErrDamaged, r.tail, r.head, r.count)
	}
	r.cleared = r.readCleared()
	return r, nil
}

// readCleared returns the number of the first message since `dmesg -C`, 0 without that.
func (r *ring) readCleared() uint64 {
	at, ok := r.m.Symbol("clear_seq")
	if !ok {
		return 0
	}
	if offset, ok := r.m.Offset("latched_seq.val"); ok {
		at += uint64(offset)
	}
	seq, err := r.uint64(at)
	if err != nil {
		return 0
	}
	return seq
}

// Read returns the messages of the kernel's log that were not overwritten, also cleared ones, the
// oldest first, at most 16 MiB of text. A message that is changed meanwhile is left out.
func Read(m Memory) ([]Record, error) {
	r, err := open(m)
	if err != nil {
		return nil, err
	}
	total := (r.head-r.tail)&idMask + 1
	var newestFirst []Record
	for done := uint64(0); done < total && r.left > 0; {
		// A batch does not go over the end of the arrays.
		last := (r.head - done) & idMask
		n := min(batch, total-done, last&(r.count-1)+1)
		if newestFirst, err = r.readBatch(newestFirst, (last-n+1)&idMask, n); err != nil {
			return nil, err
		}
		done += n
	}
	records := make([]Record, 0, len(newestFirst))
	for i := len(newestFirst) - 1; i >= 0; i-- {
		rec := newestFirst[i]
		rec.Cleared = rec.Seq < r.cleared
		records = append(records, rec)
	}
	return records, nil
}

// readBatch appends n messages from number first on, the newest first.
func (r *ring) readBatch(to []Record, first, n uint64) ([]Record, error) {
	if r.bufDescs == nil {
		r.bufDescs, r.bufDescsNext = make([]byte, batch*r.descSize), make([]byte, batch*r.descSize)
		r.bufInfos = make([]byte, batch*r.infoSize)
	}
	index := first & (r.count - 1)
	descs, again := r.bufDescs[:int64(n)*r.descSize], r.bufDescsNext[:int64(n)*r.descSize]
	infos := r.bufInfos[:int64(n)*r.infoSize]
	descsAt := r.descsAt + index*uint64(r.descSize)
	if err := errors.Join(r.m.Read(descs, descsAt), r.m.Read(infos, r.infosAt+index*uint64(r.infoSize))); err != nil {
		return nil, err
	}
	start := len(to)
	var ids []uint64
	for i := int64(n) - 1; i >= 0 && r.left > 0; i-- {
		id := (first + uint64(i)) & idMask
		desc := descs[i*r.descSize:][:r.descSize]
		state := binary.LittleEndian.Uint64(desc[r.stateVar+r.counter:])
		if state&idMask != id || state>>stateShift != committed && state>>stateShift != finalized {
			continue
		}
		if rec, ok := r.message(desc, infos[i*r.infoSize:][:r.infoSize], id); ok {
			to, ids = append(to, rec), append(ids, uint64(i))
		}
	}
	// What the kernel has used again meanwhile is something else now.
	if err := r.m.Read(again, descsAt); err != nil {
		return nil, err
	}
	kept := to[:start]
	for k, i := range ids {
		at := int64(i)*r.descSize + r.stateVar + r.counter
		before, now := binary.LittleEndian.Uint64(descs[at:]), binary.LittleEndian.Uint64(again[at:])
		if before&idMask == now&idMask {
			kept = append(kept, to[start+k])
		}
	}
	return kept, nil
}

// message reads one message.
func (r *ring) message(desc, info []byte, id uint64) (rec Record, ok bool) {
	rec.Seq = binary.LittleEndian.Uint64(info[r.seq:])
	ns := binary.LittleEndian.Uint64(info[r.time:])
	if ns > 1<<62 {
		return rec, false
	}
	rec.Time = time.Duration(ns)
	length := uint64(binary.LittleEndian.Uint16(info[r.textLen:]))
	// u16 text_len; u8 facility; u8 flags:5, level:3
	rec.Facility, rec.Level = int(info[r.textLen+2]), int(info[r.textLen+3]>>5)
	begin := binary.LittleEndian.Uint64(desc[r.textBlock+r.begin:])
	next := binary.LittleEndian.Uint64(desc[r.textBlock+r.next:])
	if begin&1 == 1 { // there is no text: the line is empty, or there was no room for it
		const emptyLine = 3
		return rec, begin == emptyLine && next == emptyLine
	}
	const idSize = 8 // a block of text begins with the number of its descriptor
	at, end := begin&(r.size-1), next&(r.size-1)
	switch {
	case next-begin > r.size:
		return rec, false
	case begin/r.size == next/r.size:
	case end == 0: // it ends with the ring
		end = r.size
	default: // it went over the end, and is at the start as a whole
		at = 0
	}
	if end < at+idSize {
		return rec, false
	}
	length = min(length, end-at-idSize, uint64(r.left))
	raw := make([]byte, idSize+length)
	if err := r.m.Read(raw, r.textAt+at); err != nil || binary.LittleEndian.Uint64(raw) != id {
		return rec, false
	}
	r.left -= len(raw)
	rec.Text = string(raw[idSize:])
	return rec, true
}
