// Package luascan reads what the source of a test file says about it before it runs: fixtures
// and profiles that are named literally, a literal claim, the calls of test and test.each, and
// the syntax tree.
//
// It does not run the file, and what is computed is not found. [Tests] says where it could not
// see everything.
//
// Start with Tests, or Parse for the tree.
package luascan
