package script

import (
	"context"
	"net/netip"

	"provium/internal/lab"
	"provium/internal/lua"
)

// streamPackets is capture:packets(timeout?).
func (f *file) streamPackets(a args, s *lab.Stream) ([]lua.Value, error) {
	limit, err := a.duration(1, "timeout", drainWait)
	if err != nil {
		return nil, err
	}
	var all []lab.Packet
	err = f.op(a, nil, func(ctx context.Context) (err error) {
		all, err = lab.Packets(ctx, s, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return []lua.Value{array(f.state, all, func(p lab.Packet) lua.Value { return f.packet(&p) })}, nil
}

// packet is a frame as a table. What it does not have is absent.
func (f *file) packet(p *lab.Packet) lua.Value {
	t := f.state.NewTable()
	set(t, "time", float64(p.At.UnixNano())/1e9)
	set(t, "time_ns", p.At.UnixNano())
	set(t, "length", int64(p.Length))
	set(t, "raw", string(p.Frame))
	set(t, "payload", string(p.Payload))
	set(t, "proto", p.Proto)
	set(t, "text", p.String())
	if len(p.EtherSrc) > 0 {
		set(t, "eth_src", p.EtherSrc.String())
		set(t, "eth_dst", p.EtherDst.String())
		set(t, "eth_type", int64(p.EtherType))
	}
	if len(p.VLANs) > 0 {
		set(t, "vlan", int64(p.VLANs[0]))
		set(t, "vlans", array(f.state, p.VLANs, func(id uint16) lua.Value { return int64(id) }))
	}
	for key, addr := range map[string]netip.Addr{"src": p.Src, "dst": p.Dst} {
		if addr.IsValid() {
			set(t, key, addr.String())
		}
	}
	if p.Src.IsValid() && p.Proto != "arp" {
		set(t, "ip_proto", int64(p.IPProto))
		set(t, "ttl", int64(p.TTL))
		set(t, "fragment", p.Fragment)
	}
	if p.Ports {
		set(t, "src_port", int64(p.SrcPort))
		set(t, "dst_port", int64(p.DstPort))
	}
	if p.TCP != nil {
		flags := f.state.NewTable()
		for _, name := range p.TCP.FlagNames() {
			set(flags, name, true)
		}
		set(t, "flags", flags)
		set(t, "seq", int64(p.TCP.Seq))
		set(t, "ack", int64(p.TCP.Ack))
		set(t, "window", int64(p.TCP.Window))
	}
	if p.ICMP {
		set(t, "type", int64(p.Type))
		set(t, "code", int64(p.Code))
	}
	if p.Proto == "arp" {
		set(t, "operation", int64(p.Operation))
	}
	return t
}
