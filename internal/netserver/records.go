package netserver

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Record is what a server says of a name.
type Record struct {
	Addrs []netip.Addr
	RCode int           // of the answer; with another one than success there are no addresses
	Drop  bool          // no answer comes
	Delay time.Duration // before the answer
	TTL   time.Duration // 0: that of the server

	other []dns.RR // from the zone
}

// zone are the names that a server knows.
type zone struct {
	ttl     uint32
	records map[string]*Record // by name in lower case, with a dot at its end
}

// maxAliases limits how many CNAMEs are followed.
const maxAliases = 8

// newZone returns the names of a table and of the text of a zone file.
func newZone(records map[string]Record, text string, ttl time.Duration) (*zone, error) {
	z := &zone{ttl: seconds(ttl), records: map[string]*Record{}}
	for name, r := range records {
		if err := z.set(name, &r); err != nil {
			return nil, err
		}
	}
	parser := dns.NewZoneParser(strings.NewReader(text), ".", "zone")
	parser.SetDefaultTTL(z.ttl)
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		name := dns.CanonicalName(rr.Header().Name)
		r := z.records[name]
		if r == nil {
			r = &Record{}
			z.records[name] = r
		}
		r.other = append(r.other, rr)
	}
	if err := parser.Err(); err != nil {
		return nil, err
	}
	return z, nil
}

// set replaces what is said of a name, or with nil removes it.
func (z *zone) set(name string, r *Record) error {
	key, err := canonical(name)
	switch {
	case err != nil:
		return err
	case r == nil:
		delete(z.records, key)
	default:
		z.records[key] = r
	}
	return nil
}

// canonical returns a name as the keys of a zone are.
func canonical(name string) (string, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return "", fmt.Errorf("`%s` is no domain name", name)
	}
	return dns.CanonicalName(name), nil
}

// find returns what is known of a name, by itself or by a wildcard, or nil.
func (z *zone) find(name string) *Record {
	name = dns.CanonicalName(name)
	if r := z.records[name]; r != nil {
		return r
	}
	for at, end := dns.NextLabel(name, 0); !end; at, end = dns.NextLabel(name, at) {
		if z.records[name[at:]] != nil {
			return nil // the closer name hides the wildcards above it
		}
		if r := z.records["*."+name[at:]]; r != nil {
			return r
		}
	}
	return z.records["*."]
}

// hasBelow reports whether there are names below one: it exists then, without records.
func (z *zone) hasBelow(name string) bool {
	suffix := "." + dns.CanonicalName(name)
	for known := range maps.Keys(z.records) {
		if strings.HasSuffix(known, suffix) {
			return true
		}
	}
	return false
}

// answer returns the records of one type for a name, with the aliases that lead to them.
func (z *zone) answer(name string, kind uint16) (all []dns.RR) {
	for range maxAliases {
		r := z.find(name)
		if r == nil {
			return all
		}
		found, alias := r.list(name, kind, z.ttl)
		all = append(all, found...)
		if alias == "" || kind == dns.TypeCNAME || kind == dns.TypeANY {
			return all
		}
		name = alias
	}
	return all
}

// list returns the records of one type, and where an alias leads, or "".
func (r *Record) list(name string, kind uint16, ttl uint32) (all []dns.RR, alias string) {
	if r.TTL > 0 {
		ttl = seconds(r.TTL)
	}
	head := func(kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
	}
	for _, a := range r.Addrs {
		switch is := kindOf(a); {
		case kind != is && kind != dns.TypeANY:
		case is == dns.TypeA:
			all = append(all, &dns.A{Hdr: head(is), A: a.AsSlice()})
		default:
			all = append(all, &dns.AAAA{Hdr: head(is), AAAA: a.AsSlice()})
		}
	}
	for _, rr := range r.other {
		is := rr.Header().Rrtype
		if is != kind && kind != dns.TypeANY && is != dns.TypeCNAME {
			continue
		}
		rr = dns.Copy(rr)
		rr.Header().Name = name // of a wildcard
		all = append(all, rr)
		if c, ok := rr.(*dns.CNAME); ok {
			alias = c.Target
		}
	}
	return all, alias
}

func kindOf(a netip.Addr) uint16 {
	if a.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

func seconds(d time.Duration) uint32 { return uint32(min(d.Seconds(), 1<<31-1)) }

// rcodes are the results by the names that tests have for them.
var rcodes = map[string]int{"noerror": dns.RcodeSuccess, "nxdomain": dns.RcodeNameError,
	"servfail": dns.RcodeServerFailure, "refused": dns.RcodeRefused, "formerr": dns.RcodeFormatError,
	"notimp": dns.RcodeNotImplemented}

// errRCode lists the results.
var errRCode = errors.New("use noerror, nxdomain, servfail, refused, formerr or notimp")

// ParseRCode returns the number of a result.
func ParseRCode(name string) (int, error) {
	if code, ok := rcodes[name]; ok {
		return code, nil
	}
	return 0, errRCode
}

// rcodeName returns the name of a result.
func rcodeName(code int) string {
	for name, c := range rcodes {
		if c == code {
			return name
		}
	}
	return fmt.Sprint(code)
}
