// Package watch notices changes of files, and says which test files they concern.
//
// It runs nothing. Start with Watcher, which notices, and Graph, which knows what test files
// use.
package watch
