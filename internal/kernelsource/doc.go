// Package kernelsource finds the lines of source that the frames of a kernel's report stand for:
// "demo_read+0x12/0x34" becomes "demo_read+0x12/0x34 (drivers/demo.c:123)". It reads them from
// vmlinux files and modules with DWARF.
//
// It looks into no guest, and decides nothing about reports. A frame is only named by a file in
// which the function is as long as the kernel says, so that a file of another build names
// nothing. What it reads may be damaged: it is checked, and costs a bounded amount of memory.
//
// Start reading at Files.Name. frames.go finds frames in a text, search.go the files, object.go
// functions in one of them, and lines.go their lines.
package kernelsource
