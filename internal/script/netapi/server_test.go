package netapi_test

import (
	"testing"

	"provium/internal/script/apitest"
)

func TestServers(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`local d = net:serve_dhcp{lease = "10m", domain = "x", mtu = 1400, 
			hosts = {[a] = "10.77.0.50", b = {hostname = "bee"},
			["02:00:00:00:00:09"] = {address = "10.77.0.60"}}, options = {[224] = "x"}, range = {"10.77.0.100", "10.77.0.110"}}
			eq(#d:leases(), 0) eq(d:address(), "10.77.0.254") eq(tostring(d), "dhcp_server(net)") d:stop() d:stop()
			eq(tostring(d), "dhcp_server(net, stopped)")`: "",
		`local d = net:serve_dhcp{subnet = "192.0.2.0/24", address = "192.0.2.1", router = {}, dns = "192.0.2.53",
			ntp = {"192.0.2.3"}, boot_file = "x", next_server = "192.0.2.4"} eq(d:address(), "192.0.2.1")`: "",
		`local r = net:serve_ra{} eq(r:address():sub(1, 6), "fe80::") local r2 = net:serve_ra{prefix = {}, rdnss = "fd00::1",
			search = {"x.test"}, managed = true, other = true, autonomous = false, hop_limit = 1, preference = "high",
			reachable = 1, retransmit = "1s", mtu = 1280, valid = "1h", lifetime = 0, interval = "1h"} repeat local c =
			r2:counters() until c.sent == 1 eq(r2:counters().solicited, 0) r:stop()`: "",
		`local d = net:serve_dns{records = {["a.test"] = "10.0.0.1", ["b.test"] = {"10.0.0.1", "fd00::1", ttl = 5,
			delay = "1s"}, ["c.test"] = {rcode = "servfail"}, ["d.test"] = {drop = true}}, zone = "e.test. IN MX 1 a.test.",
			unknown = "drop", delay = "1ms", ttl = "1h"} d:set("f.test", "10.0.0.2") d:set("a.test", nil) eq(#d:queries(), 0)
			local v4, v6 = d:address() eq(v4, "10.77.0.254") eq(v6:sub(-4), "::fe")
			eq(tostring(net:serve_dns{address = "10.77.0.9"}), "dns_server(net)")`: "",
	})
}

// Options that a server cannot have are named.
func TestServerOptions(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`net:serve_dhcp{pool = 1}`:                   "unknown option `pool` (valid: subnet, address, range",
		`net:serve_dhcp{subnet = "192.0.2.0"}`:       "opts.subnet must be a network like 192.0.2.0/24, got 192.0.2.0",
		`net:serve_dhcp{subnet = "fd00::/64"}`:       "opts.subnet must be a network like 192.0.2.0/24",
		`net:serve_dhcp{subnet = "0.0.0.0/0"}`:       "opts.subnet must have 8 to 30 bits",
		`net:serve_dhcp{address = "fd00::1"}`:        "opts.address must be an IPv4 address, got fd00::1",
		`net:serve_dhcp{address = "1.2.3.4"}`:        "bridge `net` dhcp: address 1.2.3.4 is not in 10.77.0.0/24",
		`net:serve_dhcp{range = "10.77.0.9"}`:        "opts.range must be an array of the first and the last address",
		`net:serve_dhcp{range = {1, 2}}`:             "opts.range must be an IPv4 address, or an array of them, got 1",
		`net:serve_dhcp{dns = {x = 1}}`:              "opts.dns must be an array",
		`net:serve_dhcp{lease = 0}`:                  "opts.lease must be between 1s and 4294967295s, got 0s",
		`net:serve_dhcp{mtu = 10}`:                   "opts.mtu must be between 68 and 9216, got 10",
		`net:serve_dhcp{hosts = {x1 = "10.77.0.9"}}`: "opts.hosts: key `x1`: no vm named `x1`",
		`net:serve_dhcp{hosts = {a = "x"}}`:          "opts.hosts `a` must be an IPv4 address or a table",
		`net:serve_dhcp{hosts = {a = {ip = "x"}}}`: "" +
			"opts.hosts: `a`: unknown option `ip` (valid: address, hostname)",
		`net:serve_dhcp{hosts = {[net] = "x"}}`:        "must be a vm or the name of one, got bridge",
		`net:serve_dhcp{hosts = 7}`:                    "opts.hosts must be a table",
		`net:serve_dhcp{options = {[0] = "x"}}`:        "opts.options must have numbers from 1 to 254 as keys",
		`net:serve_dhcp{options = {[53] = "x"}}`:       "options: the server sets option 53 itself",
		`net:serve_dhcp{boot_file = ("x"):rep(128)}`:   "opts.boot_file has 128 bytes, at most 127",
		`net:serve_ra{prefix = "10.0.0.0/8"}`:          "opts.prefix must be a network like fd00:1::/64, got 10.0.0",
		`net:serve_ra{managed = 1}`:                    "opts.managed must be true or false",
		`net:serve_ra{lifetime = "20h"}`:               "opts.lifetime must be between 0s and 65535s, got 72000s",
		`net:serve_ra{valid = "1h", preferred = "2h"}`: "opts.preferred must not be more than opts.valid (3600s)",
		`net:serve_ra{hop_limit = 256}`:                "opts.hop_limit must be between 0 and 255",
		`net:serve_ra{preference = "none"}`:            "opts.preference",
		`net:serve_ra{rdnss = "10.0.0.1"}`:             "opts.rdnss must be an IPv6 address",
		`net:serve_ra{search = "x..y"}`:                "bridge `net` ra: search: `x..y` is no domain name",
		`net:serve_ra{search = {1}}`:                   "opts.search must be a domain",
		`net:serve_dns{records = {["a.test"] = "x"}}`: "" +
			"bridge:serve_dns: opts.records: `a.test` must be an IP address, an array of them or a " +
			"table {rcode=, drop=, delay=, ttl=}, got x",
		`net:serve_dns{records = {["a.test"] = {"x"}}}`: "" +
			"opts.records: `a.test`: entry 1 must be an IP address, got x",
		`net:serve_dns{records = {["a.test"] = {rcode = "x"}}}`: "" +
			"`a.test`: rcode is x (use noerror, nxdomain, servfail,",
		`net:serve_dns{records = {["a.test"] = {x = 1}}}`: "" +
			"`a.test`: unknown key `x` (valid: addresses, rcode, drop,",
		`net:serve_dns{records = {["a.test"] = {drop = 1}}}`:    "`a.test`: drop must be true or false",
		`net:serve_dns{records = {["a.test"] = {delay = "x"}}}`: "`a.test`: delay: duration: cannot parse `x`",
		`net:serve_dns{records = {["a.test"] = {ttl = 0}}}`:     "`a.test`: ttl must be at least 1 s",
		`net:serve_dns{records = {["a.test"] = {"10.0.0.1", rcode = "refused"}}}`: "" +
			"`a.test`: has addresses and an rcode",
		`net:serve_dns{records = {["a..b"] = "10.0.0.1"}}`: "bridge `net` dns: `a..b` is no domain name",
		`net:serve_dns{records = {"10.0.0.1"}}`:            "opts.records must have names as keys, got 1",
		`net:serve_dns{zone = "x IN A y"}`:                 "bridge `net` dns: zone: dns: bad A A",
		`net:serve_dns{unknown = "x"}`:                     "opts.unknown is `x` (use noerror, nxdomain,",
		`net:serve_dns{address = {"10.77.0.2"}}`:           "bridge `net` dns: address 10.77.0.2 is in use",
		`net:serve_dns{}:set("a..b", "10.0.0.1")`:          "dns_server:set: `a..b` is no domain name",
		`net:serve_dns{}:set("a", "x")`:                    "dns_server:set: argument 2 (record) must be an IP address",
	})
}
