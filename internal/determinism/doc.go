// Package determinism proves that guests do the same in two runs: a Recorder writes down what a
// guest was sent, has sent, and has in its memory at each sync point, and Compare finds the first
// point at which two runs differ.
//
// It runs nothing. Start with Check.
package determinism
