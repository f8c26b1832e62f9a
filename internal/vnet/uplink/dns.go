package uplink

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	namePort = 53
	// maxQueries is the number of queries of one socket that may be under way.
	maxQueries = 64
	// nameLimit is the time limit for one name server.
	nameLimit = 3 * time.Second
	// queryHeader is the length of the header of queries and answers.
	queryHeader = 12
)

var errNoResolver = errors.New("the host has no name server")

func (s *Stack) resolvers() []netip.AddrPort {
	if s.cfg.Resolvers == nil {
		return nil
	}
	return s.cfg.Resolvers()
}

// ParseResolvers returns the name servers in a file like /etc/resolv.conf. Without any
// it is the host itself.
func ParseResolvers(text []byte) (servers []netip.AddrPort) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := bytes.Fields(lines.Bytes())
		if len(words) < 2 || string(words[0]) != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(string(words[1])); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, namePort))
		}
	}
	if len(servers) == 0 {
		servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), namePort)}
	}
	return servers
}

// serveNames answers the queries of one socket of a guest.
func (s *Stack) serveNames(ctx context.Context, guest net.Conn) {
	stop := context.AfterFunc(ctx, func() { guest.Close() })
	defer stop()
	flow := &outward{used: time.Now()}
	var work sync.WaitGroup
	defer work.Wait()
	slots := make(chan struct{}, maxQueries)
	buf := make([]byte, maxDatagram)
	for {
		n, err := flow.read(guest, buf)
		if err != nil {
			return
		}
		if n < queryHeader || buf[2]&0x80 != 0 {
			continue // no query
		}
		query := bytes.Clone(buf[:n])
		select {
		case slots <- struct{}{}:
		default:
			continue // too many at once: this one is lost
		}
		work.Add(1)
		go func() {
			defer work.Done()
			_, _ = guest.Write(s.ask(ctx, query)) // an error means that the guest is gone
			<-slots
		}()
	}
}

// ask passes a query to the host's name servers, one after the other, and returns the
// first answer, or one that reports the failure.
func (s *Stack) ask(ctx context.Context, query []byte) []byte {
	for _, server := range s.resolvers() {
		if answer, err := s.askOne(ctx, server, query); err == nil {
			return answer
		}
	}
	failed := bytes.Clone(query)
	failed[2] |= 0x80 // an answer
	failed[3] = 0x82  // recursion is available; the server has failed
	return failed
}

func (s *Stack) askOne(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, nameLimit)
	defer cancel()
	conn, err := s.cfg.Dial(ctx, "udp", server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		if n >= queryHeader && buf[0] == query[0] && buf[1] == query[1] && buf[2]&0x80 != 0 {
			return buf[:n], nil
		}
	}
}
