// Package luaapi is the one description of the Lua API: the names of functions, methods and
// fields, their arguments and options with types and defaults, what they return, and a text.
// The help, the reference pages, the types for editors, completion and the check of option
// names are made from it.
//
// It runs nothing and knows no objects: what the functions do is in internal/script. A test
// there compares this description with the live API.
//
// Start with Classes, then Function.
package luaapi
