package vnet

import "net"

// GatewayName is the port of a bridge's gateway, which no guest can have as a name.
// Isolated ports can still reach it.
const GatewayName = ".1"

// Inside is a member of a switch that lives in this process.
type Inside struct {
	ends  [2]net.Conn
	ended chan struct{} // has a token per goroutine that has ended
}

// Join makes the port live and calls receive with its frames, one at a time. They are
// valid during the call. The caller must close it.
func (p *Port) Join(receive func(frame []byte)) *Inside {
	i := &Inside{ended: make(chan struct{}, 2)}
	i.ends[0], i.ends[1] = net.Pipe()
	go func() {
		_ = p.Serve(i.ends[0]) // it ends with Close, or with the port
		i.ended <- struct{}{}
	}()
	go func() {
		_ = readFrames(i.ends[1], func(frames [][]byte) {
			for _, f := range frames {
				receive(f)
			}
		})
		i.ended <- struct{}{}
	}()
	return i
}

// Send sends a frame from the port. The caller may reuse frame.
func (p *Port) Send(frame []byte) { p.sw.enter(p, [][]byte{frame}) }

// Close ends the membership and returns when no call of receive is running.
func (i *Inside) Close() {
	i.ends[1].Close()
	i.ends[0].Close()
	<-i.ended
	<-i.ended
}

// IsolatedAddress reports whether the port that a hardware address was last heard at
// is cut off from all others.
func (s *Switch) IsolatedAddress(at [6]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, ok := s.table[addressAt(at[:])]
	return ok && s.rules.isolated[seen.port.owner]
}
