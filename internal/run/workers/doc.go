// Package workers starts the processes that run test files, and keeps one that has run a file for the next: what it
// has by then, such as a fork server of QEMU and templates of booted guests, is most of what the first guest of a file
// costs.
//
// It knows neither what is said to them nor when one may run another file (package run).
//
// Start reading at Command.Start, then Kept.
package workers
