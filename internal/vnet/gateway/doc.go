// Package gateway is the router of one bridge: the station at the first address of
// its networks. It answers for that address (ARP, neighbour discovery, echo),
// passes packets on to the gateways of routed bridges and to the uplink that carries them
// out of the lab, and says so when it cannot: time exceeded, unreachable.
//
// It sends only answers, and questions for the hardware address of a guest that it has a
// packet for. It knows neither switches nor connections: frames come by Receive and go
// by Config.Send.
//
// Start reading at Gateway.Receive in gateway.go.
//
// # Routing
//
// Peers are the gateways of the bridges that are routed to. A packet for the
// network of a peer is handed to it and goes to a guest there, never further: two
// bridges are connected by a route between them, not through a third bridge, so that
// circles of routes cause no loops. Each gateway that a packet enters decrements its
// time to live.
//
// # Concurrency
//
// All methods are safe for concurrent use. A gateway has one goroutine, which
// repeats its questions; Close joins it. No lock is held while a frame is sent or a
// peer is called.
package gateway
