// Package failure makes the text of a test that has failed: the message, the source line, what
// commands have printed, the Lua stack, and the last operations with their results.
//
// It collects nothing but operations, decides about no result, and knows no terminal: colours
// are package report's. Start with Failure; Trace records the operations.
package failure
