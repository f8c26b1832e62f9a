// Package diskcheck checks contents of a disk in guests: what a power cut could have
// left, or what a request that failed has led to. A Checker is a VM beside the one
// whose disk is checked.
//
// It decides nothing: the caller looks at what the guest makes of a content. What
// contents there are is package disk's.
package diskcheck
