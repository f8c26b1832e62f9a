// Package rerun runs recorded guests again, to a moment in what they have done, for a debugger that can go back from
// there.
//
// It does not record (package qemu), and starts no debugger. Start with Open and Recording.Start.
package rerun
