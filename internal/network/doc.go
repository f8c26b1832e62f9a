// Package network holds the bridges of a test file: virtual switches with their
// NICs, addresses, gateways, forwards and captures, and the netdevs by which the
// guests of VMs are connected to them.
//
// It moves no frame itself: package vnet has the switch, vnet/gateway the router
// and vnet/uplink the way out. It knows neither labs nor VMs nor QEMU processes.
// A VM is a Station, its guest a Machine and an Agent.
//
// Start reading at Network, which owns all state under one lock, then Bridge.
// Netdevs is the side of one running guest.
//
// # Locks
//
// Network.mu guards bridges and NICs. It may be held while methods of a switch, a
// gateway or an uplink are called, which never call back. A Scope and a Station
// are called without it. Netdevs.mu is locked before Network.mu.
package network
