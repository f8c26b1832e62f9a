// Package guestmem reads the memory of an x86-64 Linux guest as its kernel sees it: it finds
// the note in which the kernel describes itself to crash tools (VMCOREINFO), and translates the
// kernel's virtual addresses by its page tables.
//
// It knows no QEMU: a Source is any memory. It reads no data structures of the kernel beside
// these, see package printk. All bytes come from a guest that may be hostile: they are checked
// before they are used, and cost a bounded number of steps and bytes.
//
// Start reading at Find.
package guestmem
