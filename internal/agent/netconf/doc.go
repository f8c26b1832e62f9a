// Package netconf configures the guest's network as the host asks: names,
// addresses and routes of interfaces over rtnetlink, and the names of hosts in
// /etc/hosts and /etc/resolv.conf.
//
// It decides nothing: addresses and routes are the host's choice. Start with
// Network.Apply in network.go.
package netconf
