// Package report turns results into what people and programs read: lines on a
// terminal, and JSON lines. [Collector] makes a file's result from its events, as
// they come or from a saved stream.
//
// It does not run anything, does not decide in which order files are shown or
// what the exit code is, and does not find out whether its output is a
// terminal. Start with FileResult.
package report
