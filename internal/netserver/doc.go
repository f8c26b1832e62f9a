// Package netserver has the servers that a test can put on a bridge: DHCP for IPv4, router
// advertisements, and DNS.
//
// A server is a member of the bridge with a hardware address of its own. It gets frames by
// Receive and sends some by Config.Send. It knows no bridges, VMs or names of VMs. What
// guests send is parsed, and what they get is built, by libraries: gVisor's stack for
// Ethernet, IP, ARP, UDP and TCP, insomniacslk/dhcp, mdlayher/ndp and miekg/dns for the
// protocols.
//
// Start reading at Host in host.go, the network stack of one server; then dhcp.go, ra.go
// and dns.go.
package netserver
