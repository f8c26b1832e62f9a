// Package value converts between Lua values and Go values for the Lua API: it
// reads and checks the arguments and options of a call, parses durations and
// sizes, walks tables in a fixed order, and formats values for messages.
//
// It knows Lua and nothing of the domain: no lab, VM or test. A conversion that
// needs such a type stays with the function that uses it.
//
// Start reading with [Args], which most methods of the API use first.
package value
