// Package uplink carries the packets of a bridge's guests out into the host's
// networks, and connections of the host in to guests, without privileges: an IP
// stack in user space (gVisor's) ends the guests' connections, and ordinary sockets
// of the calling user go on from there.
//
// Outward it carries TCP, UDP and the echo of ICMP, while it is enabled. A packet
// for the gateway's own address goes to the loopback of the host; name queries for
// the gateway, TCP or UDP port 53, go to the name servers of the host. Connections
// that cannot be made are refused as the host's kernel refused them: by a reset, or
// as unreachable.
//
// It knows no frames and no bridges: IP packets come by Outside and Local and go by
// Config.Deliver.
//
// Start reading at Stack in stack.go; tcp.go, udp.go, echo.go and dns.go carry one
// protocol each.
package uplink
