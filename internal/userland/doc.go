// Package userland makes root file systems for guests of what the host has: of its own
// programs, of a directory, of an archive or of an OCI image.
//
// Nothing is copied. An index in the cache holds the metadata of a read-only file system
// (package erofs) and says which piece of which file of the host has the contents of each
// file; Contents reads the whole as if it were one image. A file of the host that has
// changed since then is not read: the guest gets an error, and the host says why.
//
// The package knows no guest, no disk and no profile.
//
// Start reading at Maker.Make in make.go. source.go understands what a user writes, scan.go,
// host.go and archive.go make trees, index.go writes and opens indexes, contents.go reads.
package userland
