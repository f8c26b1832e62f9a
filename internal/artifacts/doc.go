// Package artifacts keeps the evidence of failed tests: a folder for each, with what can be looked at
// when the guests are gone, and with what `provium replay` needs.
//
// It knows no guests and collects nothing from them, which package salvage does. Start with Place.Create;
// Recorder keeps the events of a test, Record is what a replay needs, and Folder writes the files.
package artifacts
