// Package kernelreport finds the failure reports of a Linux kernel in the lines that it
// prints and names each by a stable title: what happened and in which function, without
// addresses, numbers of processes and CPUs, and sizes. [Detector] turns bytes or lines into
// findings.
//
// It reads no console and no guest, starts no goroutines, keeps no time, and does not decide
// what a finding means for a test.
//
// Start reading at Detector in detect.go. match.go has the words that reports begin with,
// report.go where they end, title.go and forms.go how a title is made of one, and helpers.go
// the functions that are never to blame.
package kernelreport
