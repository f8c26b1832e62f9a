package netapi

import (
	"context"
	"net/netip"

	"provium/internal/lua"
	"provium/internal/network"
	"provium/internal/script/value"
	"provium/internal/stream"
)

// StreamPackets is capture:packets(timeout?).
func StreamPackets(x *env, a value.Args, s *stream.Stream) ([]lua.Value, error) {
	limit, err := a.Duration(1, "timeout", DrainWait)
	if err != nil {
		return nil, err
	}
	var all []network.Packet
	err = x.Op(a, nil, func(ctx context.Context) (err error) {
		all, err = network.Packets(ctx, s, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{value.Array(x.State, all, func(p network.Packet) lua.Value { return packet(x, &p) })}, nil
}

// packet is a frame as a table. What it does not have is absent.
func packet(x *env, p *network.Packet) lua.Value {
	t := x.State.NewTable()
	value.MustSet(t, "time", float64(p.At.UnixNano())/1e9)
	value.MustSet(t, "time_ns", p.At.UnixNano())
	value.MustSet(t, "length", int64(p.Length))
	value.MustSet(t, "raw", string(p.Frame))
	value.MustSet(t, "payload", string(p.Payload))
	value.MustSet(t, "proto", p.Proto)
	value.MustSet(t, "text", p.String())
	if len(p.EtherSrc) > 0 {
		value.MustSet(t, "eth_src", p.EtherSrc.String())
		value.MustSet(t, "eth_dst", p.EtherDst.String())
		value.MustSet(t, "eth_type", int64(p.EtherType))
	}
	if len(p.VLANs) > 0 {
		value.MustSet(t, "vlan", int64(p.VLANs[0]))
		value.MustSet(t, "vlans", value.Array(x.State, p.VLANs, func(id uint16) lua.Value { return int64(id) }))
	}
	for key, addr := range map[string]netip.Addr{"src": p.Src, "dst": p.Dst} {
		if addr.IsValid() {
			value.MustSet(t, key, addr.String())
		}
	}
	if p.Src.IsValid() && p.Proto != "arp" {
		value.MustSet(t, "ip_proto", int64(p.IPProto))
		value.MustSet(t, "ttl", int64(p.TTL))
		value.MustSet(t, "fragment", p.Fragment)
	}
	if p.Ports {
		value.MustSet(t, "src_port", int64(p.SrcPort))
		value.MustSet(t, "dst_port", int64(p.DstPort))
	}
	if p.TCP != nil {
		flags := x.State.NewTable()
		for _, name := range p.TCP.FlagNames() {
			value.MustSet(flags, name, true)
		}
		value.MustSet(t, "flags", flags)
		value.MustSet(t, "seq", int64(p.TCP.Seq))
		value.MustSet(t, "ack", int64(p.TCP.Ack))
		value.MustSet(t, "window", int64(p.TCP.Window))
	}
	if p.ICMP {
		value.MustSet(t, "type", int64(p.Type))
		value.MustSet(t, "code", int64(p.Code))
	}
	if p.Proto == "arp" {
		value.MustSet(t, "operation", int64(p.Operation))
	}
	return t
}
