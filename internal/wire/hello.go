package wire

// Hello opens a session.
type Hello struct {
	ProtocolVersion uint32
}

// Append encodes the message.
func (m Hello) Append(b []byte) []byte {
	f := openFields(b)
	f.uint("protocol_version", uint64(m.ProtocolVersion))
	return f.b
}

// DecodeHello decodes a Hello.
func DecodeHello(p []byte) (Hello, error) {
	var m Hello
	d := decoder{b: p}
	// A Hello of another version may have fields this one does not know; all
	// that matters then is that the version is read and refused.
	n := d.mapHeader()
	for i := 0; i < n && d.err == nil; i++ {
		if string(d.raw()) == "protocol_version" {
			m.ProtocolVersion = d.uint32()
			if m.ProtocolVersion != ProtocolVersion {
				return m, d.err
			}
			continue
		}
		d.fail("unknown field of hello")
	}
	return m, d.end()
}

// HelloOk accepts a session and says who answers.
type HelloOk struct {
	ProtocolVersion uint32
	AgentVersion    string
	GuestOS         string   // "linux", and the kernel's release behind a blank
	BootID          string   // the kernel's, a fresh one with every boot
	AgentFeatures   []string // what this agent can do beyond the version's ops
	Init            string   // who is PID 1: "minimal", "image" or "other"
}

// Append encodes the message.
func (m HelloOk) Append(b []byte) []byte {
	f := openFields(b)
	f.uint("protocol_version", uint64(m.ProtocolVersion))
	f.str("agent_version", m.AgentVersion)
	f.str("guest_os", m.GuestOS)
	f.key("agent_features")
	f.b = appendArrayHeader(f.b, len(m.AgentFeatures))
	for _, s := range m.AgentFeatures {
		f.b = appendString(f.b, s)
	}
	f.optStr("boot_id", m.BootID)
	f.optStr("init", m.Init)
	return f.b
}

// DecodeHelloOk decodes a HelloOk.
func DecodeHelloOk(p []byte) (HelloOk, error) {
	var m HelloOk
	d := decoder{b: p}
	d.eachField("hello_ok", func(key string) bool {
		switch key {
		case "protocol_version":
			m.ProtocolVersion = d.uint32()
		case "agent_version":
			m.AgentVersion = d.string()
		case "guest_os":
			m.GuestOS = d.string()
		case "agent_features":
			m.AgentFeatures = d.strings()
		case "boot_id":
			m.BootID = d.string()
		case "init":
			m.Init = d.string()
		default:
			return false
		}
		return true
	})
	return m, d.end()
}

// HelloErr refuses a session.
type HelloErr struct {
	ProtocolVersion uint32 // the refusing side's
	Text            string
}

// Append encodes the message.
func (m HelloErr) Append(b []byte) []byte {
	f := openFields(b)
	f.uint("protocol_version", uint64(m.ProtocolVersion))
	f.str("text", m.Text)
	return f.b
}

// DecodeHelloErr decodes a HelloErr.
func DecodeHelloErr(p []byte) (HelloErr, error) {
	var m HelloErr
	d := decoder{b: p}
	d.eachField("hello_err", func(key string) bool {
		switch key {
		case "protocol_version":
			m.ProtocolVersion = d.uint32()
		case "text":
			m.Text = d.string()
		default:
			return false
		}
		return true
	})
	return m, d.end()
}
