// Package vnet is a layer-2 network in user space: a learning switch whose
// ports are stream connections to guests, with impairments and partitions per
// ordered pair of ports, and a writer for captures.
//
// Start reading at Switch in switch.go: enter and send take a frame from one port to
// others, impair.go decides what happens to it, rules.go has what is in force.
//
// It assigns no addresses, routes nothing, sends no frame of its own and
// knows neither virtual machines nor how their ends of the connections are made.
//
// # Model
//
// A Port is a member of the switch under a name; a connection makes it live
// (Port.Serve) and may come and go. Between each ordered pair of ports there is
// a link with the rules in force for that direction. A frame that a port sends
// is delivered to the port that its destination was learned on, or flooded: one
// copy per receiver, each under the rules of its link.
//
// What happens to a frame on an impaired link is a function of the seed, the
// names of the link's ends and the number of the frame on it, counted from when
// the link became impaired. Nothing else is random.
//
// # Concurrency
//
// All methods are safe for concurrent use. A switch has one goroutine for
// delayed frames, and one more per live port beside that of Serve. A frame that
// is not delayed costs no allocation and no timer.
package vnet
