// Package file carries out the operations on the guest's files: to read, write,
// list and change them (file.go), and to follow them as they grow (tail.go).
//
// Files that a test has open are descriptors of an executor, which are package
// executor's. Start with Read.
package file
