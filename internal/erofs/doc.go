// Package erofs lays out EROFS file systems: it makes their metadata, and says where in the
// image the contents of each file belong. The contents themselves need not be copied:
// whoever serves the image can read them from where they are.
//
// It reads no directory and no archive, and writes no file. The format is that of the Linux
// kernel's fs/erofs/erofs_fs.h, with blocks of 4 KiB and without compression, which kernels
// understand since 5.4.
//
// Start reading at Layout in layout.go; encode.go has the structures on the disk.
package erofs
