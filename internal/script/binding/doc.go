// Package binding is what the packages of the Lua API share: how a method reaches the
// execution that it belongs to, the handles of the domain's objects, and the tables of
// methods.
//
// It has no methods of the API itself. Those of labs, VMs and guests are in package api,
// those of disks in diskapi, those of bridges and NICs in netapi.
//
// Start with Runner, the execution as methods see it, and Env, which every method gets.
package binding
