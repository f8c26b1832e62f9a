// Package display shows a run while it lasts: a status area below what is printed on a
// terminal, notices of what is slow where there is no terminal, and what runs, when somebody
// asks.
//
// It is fed by events alone, and has its clock passed in. It renders no results, which is
// package report, and neither reads keys nor takes signals. Start with Display, then progress,
// which is what the events have told.
package display
