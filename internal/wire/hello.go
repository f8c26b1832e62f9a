package wire

import "provium/internal/msgpack"

// Hello opens a session.
type Hello struct {
	ProtocolVersion uint32
}

// Append encodes the message.
func (m Hello) Append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Uint("protocol_version", uint64(m.ProtocolVersion))
	return f.Buf
}

// DecodeHello decodes a Hello.
func DecodeHello(p []byte) (Hello, error) {
	var m Hello
	d := newDecoder(p)
	// A Hello of another version may have fields this one does not know; all
	// that matters then is that the version is read and refused.
	n := d.MapLen()
	for i := 0; i < n && d.OK(); i++ {
		if string(d.Raw()) == "protocol_version" {
			m.ProtocolVersion = d.Uint32()
			if m.ProtocolVersion != ProtocolVersion {
				return m, d.Err()
			}
			continue
		}
		d.Fail("unknown field of hello")
	}
	return m, d.End()
}

// HelloOk accepts a session and describes the agent.
type HelloOk struct {
	ProtocolVersion uint32
	AgentVersion    string
	GuestOS         string   // "linux", and the kernel's release behind a blank
	BootID          string   // the kernel's, a fresh one with every boot
	AgentFeatures   []string // what this agent can do beyond the version's ops
	Init            string   // what PID 1 is: "minimal", "image" or "other"
	AgentID         string   // of this run of the agent: no other run has it
}

// Append encodes the message.
func (m HelloOk) Append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Uint("protocol_version", uint64(m.ProtocolVersion))
	f.Str("agent_version", m.AgentVersion)
	f.Str("guest_os", m.GuestOS)
	f.Key("agent_features")
	f.Buf = msgpack.AppendArrayHeader(f.Buf, len(m.AgentFeatures))
	for _, s := range m.AgentFeatures {
		f.Buf = msgpack.AppendString(f.Buf, s)
	}
	f.OptStr("boot_id", m.BootID)
	f.OptStr("init", m.Init)
	f.OptStr("agent_id", m.AgentID)
	return f.Buf
}

// DecodeHelloOk decodes a HelloOk.
func DecodeHelloOk(p []byte) (HelloOk, error) {
	var m HelloOk
	d := newDecoder(p)
	d.EachField("hello_ok", func(key string) bool {
		switch key {
		case "protocol_version":
			m.ProtocolVersion = d.Uint32()
		case "agent_version":
			m.AgentVersion = d.Str()
		case "guest_os":
			m.GuestOS = d.Str()
		case "agent_features":
			m.AgentFeatures = d.Strs()
		case "boot_id":
			m.BootID = d.Str()
		case "init":
			m.Init = d.Str()
		case "agent_id":
			m.AgentID = d.Str()
		default:
			return false
		}
		return true
	})
	return m, d.End()
}

// HelloErr refuses a session.
type HelloErr struct {
	ProtocolVersion uint32 // the refusing side's
	Text            string
}

// Append encodes the message.
func (m HelloErr) Append(b []byte) []byte {
	f := msgpack.OpenFields(b)
	f.Uint("protocol_version", uint64(m.ProtocolVersion))
	f.Str("text", m.Text)
	return f.Buf
}

// DecodeHelloErr decodes a HelloErr.
func DecodeHelloErr(p []byte) (HelloErr, error) {
	var m HelloErr
	d := newDecoder(p)
	d.EachField("hello_err", func(key string) bool {
		switch key {
		case "protocol_version":
			m.ProtocolVersion = d.Uint32()
		case "text":
			m.Text = d.Str()
		default:
			return false
		}
		return true
	})
	return m, d.End()
}
