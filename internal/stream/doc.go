// Package stream hands bytes to a test as they appear: what a process prints,
// what is appended to a file, a console, a packet capture.
//
// It waits, searches, and holds back what was not asked for yet. It does not
// know where the bytes come from, which is a Source, nor who lists the open
// streams. Start reading at Stream.
package stream
