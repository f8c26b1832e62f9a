package netserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// DNSConfig is what a server says.
type DNSConfig struct {
	Records map[string]Record
	Zone    string        // further records, as text of a zone file
	Unknown Record        // for names that are not known: its RCode, Drop and Delay
	Delay   time.Duration // before each answer
	TTL     time.Duration
}

const (
	namePort = 53
	// maxQueries is the number of queries under way, and maxConns of connections over TCP.
	// More are dropped.
	maxQueries, maxConns = 256, 64
	// maxLogged is the number of queries that are remembered, the latest ones.
	maxLogged = 10000
)

// Query is a query that came.
type Query struct {
	Name, Type string
	From       netip.AddrPort
	Protocol   string // udp or tcp
	Answer     string // name of the result, or "dropped"; "" while it is delayed
	At         time.Time
}

// DNS is a name server.
type DNS struct {
	cfg     DNSConfig
	host    *Host
	servers []*dns.Server
	work    sync.WaitGroup // of the servers
	ctx     context.Context
	cancel  context.CancelFunc
	slots   chan struct{} // has a token per query under way

	mu      sync.Mutex
	zone    *zone
	queries []*Query
}

// NewDNS starts a server. The caller must close it.
func NewDNS(at Config, cfg DNSConfig) (*DNS, error) {
	known, err := newZone(cfg.Records, cfg.Zone, cfg.TTL)
	if err != nil {
		return nil, err
	}
	host, err := NewHost(at)
	if err != nil {
		return nil, err
	}
	s := &DNS{cfg: cfg, host: host, zone: known, slots: make(chan struct{}, maxQueries)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for _, p := range at.Addresses {
		if err := s.listen(p.Addr()); err != nil {
			s.Close()
			return nil, fmt.Errorf("dns: %w", err)
		}
	}
	return s, nil
}

// listen serves queries to an address.
func (s *DNS) listen(a netip.Addr) error {
	local := tcpip.FullAddress{NIC: nicID, Addr: toAddress(a), Port: namePort}
	datagrams, err := gonet.DialUDP(s.host.ip, &local, nil, protocolOf(a))
	if err != nil {
		return err
	}
	s.serve(&dns.Server{PacketConn: datagrams})
	streams, err := gonet.ListenTCP(s.host.ip, local, protocolOf(a))
	if err != nil {
		return err
	}
	s.serve(&dns.Server{Listener: netutil.LimitListener(streams, maxConns)})
	return nil
}

// serve starts a server and returns when it listens.
func (s *DNS) serve(server *dns.Server) {
	started := make(chan struct{})
	server.Handler, server.NotifyStartedFunc = dns.HandlerFunc(s.handle), func() { close(started) }
	s.servers = append(s.servers, server)
	s.work.Go(func() {
		_ = server.ActivateAndServe() // it ends with Close
	})
	<-started
}

// Close ends the server. Queries under way get no answer.
func (s *DNS) Close() {
	s.cancel()
	for _, server := range s.servers {
		_ = server.Shutdown() // an error means that it has ended
	}
	s.work.Wait()
	s.host.Close()
}

// Receive accepts a frame from the bridge.
func (s *DNS) Receive(frame []byte) { s.host.Receive(frame) }

// Set replaces what is said of a name, or with nil forgets it.
func (s *DNS) Set(name string, r *Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.zone.set(name, r)
}

// Queries returns the queries that came, oldest first: the latest 10,000.
func (s *DNS) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Query, len(s.queries))
	for i, q := range s.queries {
		all[i] = *q
	}
	return all
}

// handle answers one query.
func (s *DNS) handle(w dns.ResponseWriter, request *dns.Msg) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return // too many at once: this one is lost
	}
	reply := new(dns.Msg)
	if request.Opcode != dns.OpcodeQuery || len(request.Question) != 1 {
		_ = w.WriteMsg(reply.SetRcode(request, dns.RcodeNotImplemented)) // the guest may be gone
		return
	}
	asked := request.Question[0]
	query, r := s.note(w, asked)
	switch {
	case r.Drop:
		s.finish(query, "dropped")
		_ = w.Close() // of TCP; UDP has nothing to close
		return
	case s.cfg.Delay+r.Delay > 0:
		select {
		case <-time.After(s.cfg.Delay + r.Delay):
		case <-s.ctx.Done():
			return
		}
	}
	reply.SetRcode(request, r.RCode)
	reply.Authoritative, reply.RecursionAvailable = true, true
	if r.RCode == dns.RcodeSuccess {
		s.mu.Lock()
		reply.Answer = s.zone.answer(asked.Name, asked.Qtype)
		s.mu.Unlock()
	}
	s.finish(query, rcodeName(r.RCode))
	size := dns.MaxMsgSize
	if query.Protocol == "udp" {
		size = dns.MinMsgSize
	}
	if o := request.IsEdns0(); o != nil {
		reply.SetEdns0(maxDatagram, false)
		if query.Protocol == "udp" {
			size = max(size, min(int(o.UDPSize()), maxDatagram))
		}
	}
	reply.Truncate(size)
	_ = w.WriteMsg(reply) // the guest may be gone
}

// maxDatagram is the longest answer in a datagram, which needs no fragments.
const maxDatagram = 1232

// note remembers a query, and returns what is to be said.
func (s *DNS) note(w dns.ResponseWriter, asked dns.Question) (*Query, Record) {
	protocol := "udp"
	if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		protocol = "tcp"
	}
	from, _ := netip.ParseAddrPort(w.RemoteAddr().String())
	q := &Query{Name: strings.TrimSuffix(asked.Name, "."), Type: dns.Type(asked.Qtype).String(), From: from,
		Protocol: protocol, At: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queries) >= maxLogged {
		s.queries = slices.Delete(s.queries, 0, maxLogged/10)
	}
	s.queries = append(s.queries, q)
	if r := s.zone.find(asked.Name); r != nil {
		return q, *r
	}
	if s.zone.hasBelow(asked.Name) {
		return q, Record{}
	}
	return q, s.cfg.Unknown
}

// finish remembers what was said.
func (s *DNS) finish(q *Query, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.Answer = answer
}
