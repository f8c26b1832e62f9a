// Package e2e tests the program from outside, as its users run it: projects in
// temporary directories, exit codes, what is printed, and what is left behind.
// What a single test sees is tested by the Lua suites beside it.
package e2e
