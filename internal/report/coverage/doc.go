// Package coverage makes a report of the events of a run: which parts of a specification
// (meta.spec) have tests, and with which results, which files and tests are slow, what
// fixtures cost, and how well the pool was used.
//
// It neither runs anything nor decides where a stream comes from. Start with Builder: it
// takes streams, and its Report is written by [Text], [HTML] and [JSON]. The page of a whole
// run, with timeline and failures, is package page.
//
// Texts of guests are hostile. They are escaped in all formats, and long ones are cut.
package coverage
