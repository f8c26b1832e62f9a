// Package netapi is the Lua API of networks: bridges with their partitions, impairments,
// routes and uplinks, NICs, ports of the test itself, servers, and the packets of captures.
//
// It has no logic of networks: it checks arguments, calls package lab and turns results into
// Lua values. What it needs of the running test is behind binding.Runner.
//
// Start with Open, then newBridgeType, which lists the methods of bridges.
package netapi

import (
	"time"

	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/binding"
)

// DrainWait is how long stream:drain and stream:packets wait for more by default.
const DrainWait = 500 * time.Millisecond

// env is what the methods get.
type env = binding.Env

// Open makes the types of bridges and NICs, and returns the methods that VMs have.
func Open(x *binding.Env) (vm map[string]lua.GoFunc) {
	x.Types.Bridge = newBridgeType(x)
	x.Types.NIC = newNICType(x)
	x.Types.Port = newPortType(x)
	x.Types.DHCPServer, x.Types.RAServer, x.Types.DNSServer = newDHCPType(x), newRAType(x), newDNSType(x)
	return binding.MethodTable(x, "vm", map[string]binding.Method[*env, *lab.VM]{"nic": vmNIC})
}
