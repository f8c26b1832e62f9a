// Package filter selects Ethernet frames by expressions in the language of
// tcpdump(8), see pcap-filter(7).
//
// An expression is compiled to a tree of tests on bytes, not to instructions: it
// checks every offset against the end of the frame. As in tcpdump, a frame that ends
// before a byte that a test needs is never selected.
//
// What it leaves out is refused with its place in the text: names of hosts and
// networks (nothing is resolved), protocols other than those of Ethernet, ARP, IP
// and its TCP, UDP, SCTP and ICMP, and what concerns a capturing interface.
package filter
