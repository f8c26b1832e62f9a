// Package console keeps what a guest prints: [Log] is the stored text with search and
// waiting.
//
// It does not read from a guest or write to one, starts no goroutines, keeps no time, and
// does not look for failures in the text (that is internal/kernelreport's job).
//
// Start reading at Log in log.go.
package console
