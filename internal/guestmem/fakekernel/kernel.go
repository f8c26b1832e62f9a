// Package fakekernel makes the memory of a Linux kernel for tests: its note, its page tables
// and its log. It runs nothing, and reads nothing; the packages under test do.
//
// Start reading at Kernel.
package fakekernel

import (
	"encoding/binary"
	"fmt"
)

// textStart is where the image of a kernel begins in virtual memory.
const textStart = 0xffffffff80000000

// Where the parts lie in physical memory, relative to Kernel.Base.
const (
	noteAt   = 0x5000
	tablesAt = 0x10000 // five pages
	ringAt   = 0x20000
	clearAt  = 0x21000
	descsAt  = 0x40000
	infosAt  = 0x80000
	textAt   = 0x100000
	length   = 0x200000
)

// The sizes of the kernel's types (Linux 6.1, x86-64).
const (
	descSize = 24
	infoSize = 88
)

// CR3 is where the page tables are, relative to Kernel.Base.
const CR3 = tablesAt

// Message is one message of the log.
type Message struct {
	Level, Facility int
	NS              uint64
	Text            string
}

// Kernel describes a kernel.
type Kernel struct {
	Base                int64  // physical address of its memory, 2 MiB aligned
	Offset              uint64 // by which KASLR has moved it, 2 MiB aligned
	FiveLevels          bool
	CountBits, SizeBits uint   // of the log; 0: 8 and 12
	Seq                 uint64 // of the first message
	Cleared             uint64
	Release             string // "" is 6.1.0-fake
	Messages            []Message
}

// Length is how much memory a Kernel takes from its Base on, in bytes.
const Length = length

// virtual returns the virtual address of an offset in the kernel's memory.
func (k *Kernel) virtual(at uint64) uint64 { return textStart + k.Offset + at }

// Note returns the text of the note.
func (k *Kernel) Note() string {
	release := k.Release
	if release == "" {
		release = "6.1.0-fake"
	}
	five := 0
	if k.FiveLevels {
		five = 1
	}
	text := fmt.Sprintf("OSRELEASE=%s\nPAGESIZE=4096\nNUMBER(phys_base)=%d\nSYMBOL(init_top_pgt)=%x\n"+
		"NUMBER(pgtable_l5_enabled)=%d\nKERNELOFFSET=%x\nSYMBOL(prb)=%x\nSYMBOL(clear_seq)=%x\n", release,
		k.Base-int64(k.Offset), k.virtual(tablesAt), five, k.Offset, k.virtual(ringAt), k.virtual(clearAt))
	for _, line := range []string{
		"SIZE(printk_ringbuffer)=80", "OFFSET(printk_ringbuffer.desc_ring)=0",
		"OFFSET(printk_ringbuffer.text_data_ring)=40", "OFFSET(printk_ringbuffer.fail)=72",
		"SIZE(prb_desc_ring)=40", "OFFSET(prb_desc_ring.count_bits)=0", "OFFSET(prb_desc_ring.descs)=8",
		"OFFSET(prb_desc_ring.infos)=16", "OFFSET(prb_desc_ring.head_id)=24", "OFFSET(prb_desc_ring.tail_id)=32",
		"SIZE(prb_desc)=24", "OFFSET(prb_desc.state_var)=0", "OFFSET(prb_desc.text_blk_lpos)=8",
		"SIZE(prb_data_blk_lpos)=16", "OFFSET(prb_data_blk_lpos.begin)=0", "OFFSET(prb_data_blk_lpos.next)=8",
		"SIZE(printk_info)=88", "OFFSET(printk_info.seq)=0", "OFFSET(printk_info.ts_nsec)=8",
		"OFFSET(printk_info.text_len)=16", "SIZE(prb_data_ring)=32", "OFFSET(prb_data_ring.size_bits)=0",
		"OFFSET(prb_data_ring.data)=8", "OFFSET(prb_data_ring.head_lpos)=16", "OFFSET(prb_data_ring.tail_lpos)=24",
		"SIZE(atomic_long_t)=8", "OFFSET(atomic_long_t.counter)=0", "OFFSET(latched_seq.val)=8",
	} {
		text += line + "\n"
	}
	return text
}

// Memory returns the kernel's memory, which lies at Base.
func (k *Kernel) Memory() []byte {
	m := make([]byte, length)
	copy(m[noteAt:], k.Note())
	k.writeTables(m)
	k.writeRing(m)
	return m
}

func put(m []byte, at int, v uint64) { binary.LittleEndian.PutUint64(m[at:], v) }

// writeTables maps the first GiB behind textStart+Offset by pages of 2 MiB.
func (k *Kernel) writeTables(m []byte) {
	const present, large, page = 1, 1 << 7, 0x1000
	at, physical := tablesAt, uint64(k.Base)+tablesAt
	levels := 4
	if k.FiveLevels {
		levels = 5
	}
	virtual := k.virtual(0)
	for level := levels; level > 2; level-- {
		shift := 12 + 9*(level-1)
		physical += page
		put(m, at+int(virtual>>shift&511)*8, physical|present)
		at += page
	}
	for i := uint64(0); i < 512-virtual>>21&511; i++ {
		put(m, at+int(virtual>>21&511+i)*8, (uint64(k.Base)+i<<21)|present|large)
	}
}

// writeRing writes the log as the kernel does: what does not fit overwrites the oldest.
func (k *Kernel) writeRing(m []byte) {
	countBits, sizeBits := k.CountBits, k.SizeBits
	if countBits == 0 {
		countBits, sizeBits = 8, 12
	}
	count, size := uint64(1)<<countBits, uint64(1)<<sizeBits
	const initial = 0x3fffffffffffff00 // the kernel begins shortly before the numbers' end
	begin, tail := uint64(initial)&^(size-1), 0
	type block struct{ begin, next uint64 }
	var blocks []block
	for i, msg := range k.Messages {
		need := (8 + uint64(len(msg.Text)) + 7) &^ 7
		b := block{begin, begin + need}
		if b.begin/size != b.next/size { // it goes to the start of the ring
			b.next = b.next/size*size + need
		}
		if len(msg.Text) == 0 {
			b = block{3, 3}
		} else {
			begin = b.next
		}
		blocks = append(blocks, b)
		for blocks[tail].begin != 3 && begin-blocks[tail].begin > size || uint64(i-tail) >= count ||
			blocks[tail].begin == 3 && tail < i && begin-blocks[tail+1].begin > size {
			tail++
		}
	}
	id := func(i int) uint64 { return (initial + uint64(i)) & (1<<62 - 1) }
	for i := range k.Messages {
		msg, b := k.Messages[i], blocks[i]
		if i < tail && id(i)&(count-1) == id(tail)&(count-1) {
			continue
		}
		state := uint64(2)
		if i < tail {
			state = 3 // reusable
		}
		slot := int(id(i) & (count - 1))
		put(m, descsAt+slot*descSize, id(i)|state<<62)
		put(m, descsAt+slot*descSize+8, b.begin)
		put(m, descsAt+slot*descSize+16, b.next)
		info := m[infosAt+slot*infoSize:]
		put(info, 0, k.Seq+uint64(i))
		put(info, 8, msg.NS)
		binary.LittleEndian.PutUint16(info[16:], uint16(len(msg.Text)))
		info[18], info[19] = byte(msg.Facility), byte(msg.Level)<<5
		if b.begin != 3 && i >= tail {
			at := int(b.begin & (size - 1))
			if b.begin/size != b.next/size {
				at = 0
			}
			put(m, textAt+at, id(i))
			copy(m[textAt+at+8:], msg.Text)
		}
	}
	put(m, clearAt+8, k.Cleared)
	put(m, ringAt, k.virtual(ringAt+8))
	ring := m[ringAt+8:]
	binary.LittleEndian.PutUint32(ring, uint32(countBits))
	put(ring, 8, k.virtual(descsAt))
	put(ring, 16, k.virtual(infosAt))
	put(ring, 24, id(len(k.Messages)-1))
	put(ring, 32, id(tail))
	binary.LittleEndian.PutUint32(ring[40:], uint32(sizeBits))
	put(ring, 48, k.virtual(textAt))
}
