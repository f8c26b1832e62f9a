// Package inspect looks into guests from outside, without their help: it reads the log of a
// guest's kernel from its memory, and takes its state before the guest ends.
//
// It decides nothing about guests, and how what it finds is shown is the caller's concern.
//
// Start reading at Guest.
package inspect
