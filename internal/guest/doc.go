// Package guest is the host side of the agent link: typed operations with
// context over one connection. It knows the protocol's operations and nothing
// of virtual machines, Lua or how the connection came to be; the guest side is
// package agent. Start with Connect in client.go, then ops.go.
package guest
