package lab

import (
	"context"
	"time"

	"provium/internal/network"
	"provium/internal/vnet"
)

// The types of networks, for callers that see only this package.
type (
	BridgeOpts  = network.BridgeOpts
	Bridge      = network.Bridge
	Endpoint    = network.Endpoint
	NIC         = network.NIC
	ForwardOpts = network.ForwardOpts
	CaptureOpts = network.CaptureOpts
	Packet      = network.Packet

	ImpairmentRule = vnet.Rule
	GilbertElliott = vnet.GilbertElliott
	Distribution   = vnet.Distribution
	Impairment     = vnet.Kind
)

// The kinds of impairments, and the distributions of jitter.
const (
	Latency   = vnet.Latency
	Jitter    = vnet.Jitter
	Loss      = vnet.Loss
	Duplicate = vnet.Duplicate
	Reorder   = vnet.Reorder
	Corrupt   = vnet.Corrupt
	Bandwidth = vnet.Bandwidth

	Uniform = vnet.Uniform
	Normal  = vnet.Normal
	Pareto  = vnet.Pareto
)

// Packets decodes the frames that a capture brings until the limit or the end.
func Packets(ctx context.Context, s *Stream, limit time.Duration) ([]Packet, error) {
	return network.Packets(ctx, s, limit)
}
