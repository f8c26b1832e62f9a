// Package recording describes guests whose run QEMU has written down: what is needed to run one again, the moments in
// it that have names, and the words of QEMU's command line for both.
//
// It runs no guest: package qemu records, package rerun runs again. Start with Recorder and Tape.
package recording
