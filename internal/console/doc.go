// Package console keeps what a guest prints and finds the kernel's failure
// reports in it: [Log] is the stored text with search and waiting, [Detector]
// turns lines into findings.
//
// It does not read from a guest or write to one, starts no goroutines, keeps
// no time, and does not decide what a finding means for a test.
//
// Start reading at Log in log.go for the text, and at Detector in detect.go for the
// findings; match.go has the words of the kernel's reports.
package console
