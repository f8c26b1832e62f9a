// Package printk reads the log of a Linux kernel (5.10 or newer) from its memory: the printk
// ring buffer, by the offsets that the kernel itself publishes.
//
// It finds nothing in memory by itself: a Memory comes from package guestmem. It judges no
// texts. What it reads may change under it, since the guest runs, or be forged: it is checked,
// and a damaged ring costs a bounded number of steps and bytes.
//
// Start reading at Read.
package printk
