// Package textdiff shows where two long texts differ, for the report of a failed
// assertion. Its output is bounded, and so is the time it takes: O(n log n) in the
// number of lines.
//
// It compares text only. How a Lua value becomes text is the job of package value.
//
// Start reading with [Strings].
package textdiff
