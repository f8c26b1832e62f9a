package netapi_test

import (
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/lua"
	"provium/internal/script/apitest"
	"provium/internal/script/binding"
)

// host returns a host of fake machines with the profile `host`.
func host(t testing.TB) *lab.Host {
	machines := fakemachine.New(t)
	return &lab.Host{
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}}, ConfigPath: "provium.toml",
		TempDir: t.TempDir(), Starter: machines, Images: machines,
	}
}

// attached declares two VMs that are attached to a bridge.
const attached = `
local a, b, c = provium:vm("a", "host"), provium:vm("b", "host"), provium:vm("c", "host")
local net = provium:bridge("net", {seed = 7})
net:attach({a, "b"})
local function eq(got, want)
	if got ~= want then error(("got %s, want %s"):format(tostring(got), tostring(want)), 2) end
end
`

func TestBridges(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`eq(net:name(), "net") eq(net:seed(), 7) eq(tostring(net), "bridge(net)") eq(provium.net, net)
			eq(provium:bridge_names()[1], "net")`: "",

		`eq(table.concat(net:members(), " "), "a b") net:attach(c) net:detach(a) eq(table.concat(net:members(), " "),
			"b c")`: "",

		`net:attach("c") eq(#net:members(), 3) net:close() eq(net:name(), "net")`: "",

		`eq(provium:members()[4].kind, "bridge") provium:remove(net) eq(provium.net, nil)`: "",

		`provium:bridge("plain", {addressing = "none"}) provium:bridge("auto", {addressing = "auto"})`: "",

		`provium:bridge()`:                           "lab:bridge: argument 1 (name) must be a string, got nil",
		`provium:bridge("x", 7)`:                     "argument 2 (opts) must be a table",
		`provium:bridge("x", {mtu = 1})`:             "unknown option `mtu` (valid: seed, addressing)",
		`provium:bridge("x", {seed = "a"})`:          "opts.seed must be an integer",
		`provium:bridge("x", {addressing = "dhcp"})`: "opts.addressing must be \"none\" or \"auto\", got dhcp",

		`net:attach(a, {nic = "spare"}) local n = net:nic(a, {nic = "spare"}) eq(tostring(n), "nic(a/spare on net)")
			eq(a:nic("spare"), n) eq(net:nic(a) == n, false) eq(#net:members(), 2) net:detach(a, {nic = "spare"})
			eq(#net:members(), 2)`: "",
		`net:attach(a, {nic = ""})`:      "bridge:attach: opts.nic must not be empty",
		`net:attach(a, {nic = "x y"})`:   "nic name `x y` is not valid",
		`net:attach(a, {nick = "x"})`:    "unknown option `nick` (valid: nic)",
		`net:nic(a, {nic = "x"})`:        "bridge:nic: vm `a` has no NIC `x` on bridge `net`",
		`net:detach(a, {nic = "spare"})`: "vm `a` has no NIC `spare` on bridge `net`",

		`net:attach()`: "bridge:attach: argument 1 (vm) must be a vm or the name of one, got nil",

		`net:attach("")`: "argument 1 (vm) must not be empty",

		`net:attach({a, 7})`: "element 2 of the list must be a vm or the name of one, got number",

		`net:attach({x = a})`: "argument 1 must be an array",
		`net:attach(net)`:     "must be a vm or the name of one, got bridge",
		`net:detach(7)`:       "argument 1 (vm) must be a vm",
		`net:detach(c)`:       "c",
	})
}

// A VM that is attached again stays as it is, and the test's log says so.
func TestAttachedAgain(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(attached + `net:attach({c, a}) net:attach(b, {nic = "x"})
		net:attach("b", {nic = "x"})`); err != nil {
		t.Fatal(err)
	}
	want := "bridge:attach: vm `a` is on bridge `net` already; attach(vm, {nic = \"NAME\"}) gives it another " +
		"NIC there\nbridge:attach: vm `b` has its NIC `x` on bridge `net` already"
	if got := strings.Join(s.Warnings, "\n"); got != want {
		t.Error(got)
	}
}

func TestPartitions(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`net:partition(a, "b") eq(net:is_partitioned(a, b), true) net:unpartition(b, a) eq(net:is_partitioned(a, b),
			false)`: "",

		`net:partition({from = a, to = b}) eq(net:is_partitioned(a, b), true) eq(net:is_partitioned(b, a), false)
			net:unpartition({from = "a", to = "b"})`: "",

		`net:partition_all() eq(net:is_partitioned(a, b), true) net:restore_all() eq(net:is_partitioned(a, b),
			false)`: "",

		`net:partition_all() net:attach(c) eq(net:is_partitioned(c, a), true) net:unpartition(a, c)
			eq(net:is_partitioned(a, c), false) eq(net:is_partitioned(a, b), true)`: "",

		`net:partition_all() net:partition({from = a, to = b}) net:unpartition(a, b) eq(net:is_partitioned(a, b), true)
			eq(net:is_partitioned(b, a), false)`: "",

		// A declared VM may be attached later.
		`net:partition(a, c) net:isolate("c") net:attach(c) eq(net:is_partitioned(c, a), true) eq(net:is_isolated(c),
			true)`: "",
		`local l = provium:lab("inner") local n = l:bridge("n") l:vm("d", "host") n:attach({"d", "a"})
			n:partition("d", a) eq(table.concat(n:members(), " "), "d a")`: "",

		`provium:vm("shop", "host") net:partition(a, "shpo")`: "bridge:partition: argument 2 (b): no vm named " +
			"`shpo` is declared in lab `provium` or outward (did you mean `shop`?)",
		`net:unpartition(a, "nobody")`: "no vm named `nobody` is declared in lab `provium` or outward (known: a, b, c)",
		`net:is_partitioned("x1", a)`:  "argument 1 (a): no vm named `x1`",
		`net:isolate("nobody")`:        "bridge:isolate: argument 1 (vm): no vm named `nobody`",
		`net:unisolate("nobody")`:      "no vm named `nobody`",
		`net:is_isolated("nobody")`:    "no vm named `nobody`",
		`net:latency_ms("nobody", a)`:  "argument 1 (from): no vm named `nobody`",
		`net:attach({a, "nobody"})`:    "bridge:attach: element 2 of the list: no vm named `nobody`",
		`net:detach("nobody")`: "vm `nobody` is not attached to bridge `net` (members: a, b); attach it with " +
			"bridge:attach first: no vm named `nobody` is declared",
		`net:drop_rate({from = a, to = "nobody", p = 1})`: "vm `nobody` is not attached",
		`net:drop_rate({from = a, to = c, p = 1})`:        "vm `c` is not attached",
		`net:unpartition({from = a, to = "nobody"})`:      "`to`: no vm named `nobody`",
		`net:unpartition({from = a, to = c})`:             "",
		`net:forward({vm = "nobody", port = 1})`:          "no vm named `nobody`",

		`net:isolate(a) eq(net:is_isolated(a), true) net:unisolate("a") eq(net:is_isolated(a), false) net:reset()`: "",

		`net:partition(a)`:                         "argument 2 (b) must be a vm or the name of one, got nil",
		`net:partition(a, a)`:                      "both are vm `a` (they must differ)",
		`net:partition({from = a})`:                "`to` is missing",
		`net:partition({from = a, to = 7})`:        "`to` must be a vm or the name of one, got number",
		`net:partition({from = a, to = "a"})`:      "from and to are both vm `a`",
		`net:partition({from = a, to = c})`:        "c",
		`net:partition({from = a, to = b, x = 1})`: "unknown option `x`",
		`net:is_partitioned(a)`:                    "argument 2 (b)",
		`net:isolate()`:                            "argument 1 (vm)",
		`net:is_isolated({})`:                      "argument 1 (vm) must be a vm or the name of one, got table",
	})
}

func TestImpairments(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`net:add_latency(5) eq(net:latency_ms(), 5) eq(net:latency_ms(a, b), 5) net:add_latency({from = a, to = b, ms
			= 1.5}) eq(net:latency_ms(a, b), 1.5) eq(net:latency_ms(b, a), 5)`: "",

		`net:add_directional_latency({from = a, to = b, ms = 2}) eq(net:latency_ms(a, b), 2)
			eq(net:latency_ms(), 0)`: "",

		`net:add_jitter(5, {distribution = "normal"}) eq(net:jitter_ms(), 5) eq(net:jitter_distribution(),
			"normal")`: "",

		`net:add_jitter({from = a, to = b, ms = 5, distribution = "pareto"}) eq(net:jitter_distribution(a, b),
			"pareto")`: "",

		`net:drop_rate(150) eq(net:drop_rate_pct(), 100) eq(net:loss_model(), nil)`: "",

		`net:drop_rate(10, {burst = 4}) eq(net:drop_rate_pct(), 10) eq(net:loss_model().leave, 25)
			eq(net:loss_model().bad, 100)`: "",

		`net:drop_rate(0, {burst = 4}) eq(net:loss_model(), nil)`: "",

		`net:directional_drop_rate({from = a, to = b, p = 3}) eq(net:drop_rate_pct(a, b), 3)`: "",

		`net:duplicate_rate(1) net:reorder_rate(2) net:corrupt_rate(3) eq(net:duplicate_rate_pct() +
			net:reorder_rate_pct() + net:corrupt_rate_pct(), 6)`: "",

		`net:bandwidth_limit(1000000, {queue = "64K"}) eq(net:bandwidth_bps(), 1000000) eq(net:bandwidth_queue(),
			65536)`: "",

		`net:gilbert_elliott({enter = 1, leave = 25}) local m = net:loss_model() eq(m.enter, 1) eq(m.good, 0)`: "",

		`net:gilbert_elliott({enter = 1, leave = 25, good = 1, bad = 50, from = a, to = b}) eq(net:loss_model(a,
			b).bad, 50) eq(net:loss_model(), nil)`: "",

		`net:gilbert_elliott({enter = 0, leave = 0}) eq(net:loss_model(), nil)`: "",

		`net:add_latency()`: "argument 1 must be a number or a table {from=, to=, ms=}, got nil",

		`net:add_latency(-1)`: "argument 1 must be a finite, non-negative number, got -1",

		`net:add_latency(1, {x = 1})`:                        "unknown option `x`",
		`net:add_latency({from = a, to = b})`:                "`ms` must be a number, got nil",
		`net:add_latency({from = a, ms = 1})`:                "`to` is missing",
		`net:add_latency({from = a, to = b, ms = 1, p = 1})`: "unknown option `p`",

		`net:add_directional_latency(5)`: "argument 1 (rule) must be a table {from=, to=, ms=}, got number",

		`net:add_jitter(1, {distribution =
			"cauchy"})`: "opts.distribution = `cauchy` is none (use uniform, normal, pareto)",

		`net:add_jitter(1, {distribution = 7})`:                          "opts.distribution must be a string",
		`net:add_jitter({from = a, to = b, ms = 1, distribution = "x"})`: "opts.distribution = `x` is none",
		`net:drop_rate(10, {burst = "x"})`:                               "opts.burst must be a number",
		`net:drop_rate(10, {burst = 0.5})`:                               "opts.burst must be at least 1",

		`net:drop_rate(90, {burst = 1})`: "opts.burst must be at least 9 where 90 % of the frames are lost, got 1",

		`net:bandwidth_limit(1000, {queue = "x"})`: "opts.queue cannot parse size",

		`net:gilbert_elliott(7)`: "argument 1 (rule) must be a table {enter=, leave=, good=, bad=}",

		`net:gilbert_elliott({enter = 1, x = 1})`:               "unknown option `x`",
		`net:gilbert_elliott({enter = 1})`:                      "`leave` must be a number, got nil",
		`net:gilbert_elliott({enter = 1, leave = 0})`:           "`leave` must be more than 0, got 0",
		`net:gilbert_elliott({enter = 1, leave = 1, from = a})`: "`to` is missing",
		`net:latency_ms(a)`:                                     "argument 2 (to)",
	})
}

func TestRouting(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`local other = provium:bridge("other") net:route(other) eq(net:routes()[1], "other") net:route({other})`: "",
		`a:boot() net:route({"other", "net-9"}) eq(table.concat(net:routes(), " "), "other net-9")
			local other = provium:bridge("other") eq(other:routes()[1], "net") eq(table.concat(net:routes(), " "),
			"other net-9") net:route("other")`: "",
		`net:route("net")`:         "bridge `net` cannot be routed to itself",
		`net:route("")`:            "argument 1 (other) must not be empty",
		`net:route({"ok", "a b"})`: "element 2 of the list: bridge name `a b` is not valid",
		`net:route("x") provium:bridge("x", {addressing = "none"})`: "bridge `net` waits for a route to `x`: " +
			"bridge `x` has no addressing",
		`net:enable_uplink() net:disable_uplink()`: "",
		`net:route()`:                                        "argument 1 (other) must be a bridge or the name of one",
		`net:route({net, 7})`:                                "element 2 of the list must be a bridge or the name",
		`net:route({x = net})`:                               "argument 1 must be an array",
		`net:forward()`:                                      "argument 1 (opts) must be a table {vm=, port=}",
		`net:forward({port = 1})`:                            "`vm` is missing",
		`net:forward({vm = 7, port = 1})`:                    "`vm` must be a vm or the name of one",
		`net:forward({vm = a})`:                              "`port` is missing",
		`net:forward({vm = a, port = "x"})`:                  "opts.port must be an integer",
		`net:forward({vm = a, port = 70000})`:                "opts.port must be from 1 to 65535, got 70000",
		`net:forward({vm = a, port = 1, protocol = "sctp"})`: "opts.protocol must be \"tcp\" or \"udp\", got sctp",
		`net:forward({vm = a, port = 1, host = 1})`:          "unknown option `host`",
		`eq(type(net:forward({vm = a, port = 80})), "string") net:forward({vm = "a", port = 53, protocol = "udp"})`: "",
		`net:forward({vm = c, port = 80})`: "c",
	})
}

func TestNICs(t *testing.T) {
	apitest.Check(t, host, attached, map[string]string{
		`local n = net:nic(a) eq(n, net:nic("a")) eq(n:vm_name(), "a") eq(n:bridge(), "net") eq(#n:mac(), 17)
			eq(tostring(n), "nic(a on net)") eq(type(n:ip()), "string")`: "",

		`eq(provium:bridge("plain", {addressing = "none"}):attach(a), nil) eq(provium.plain:nic(a):ip(), nil)`: "",

		`local c = net:nic(a):counters() eq(c.rx_bytes, 0) eq(c.errors, 0)`: "",

		`net:nic(a):disconnect() net:nic(a):reconnect()`: "",

		`eq(a:nic("net"), net:nic(a))`: "",
		`a:nic(7)`:                     "vm:nic: argument 1 (name) must be a string",
		`a:nic("gone")`:                "gone",
		`net:nic(c)`:                   "c",
		`net:nic(7)`:                   "argument 1 (vm)",
		`local s = net:capture() eq(#s:packets("20ms"), 0) s:close()`:               "",
		`a:boot() net:nic(a):capture({nanoseconds = true, filter = "tcp"}):close()`: "",
		`net:capture({filter = "no such filter ((("})`:                              "filter",
		`net:capture({filter = 7})`:                                                 "opts.filter must be a string",

		`net:capture({nanoseconds = 7})`: "opts.nanoseconds must be true or false",

		`net:capture({x = 7})`: "unknown option `x`",

		`net:capture():packets("x")`: "stream:packets: argument 1 (timeout): duration",
	})
}

func TestPorts(t *testing.T) {
	apitest.Check(t, host, attached+`local p, q = net:port(), net:port({name = "q"}) `, map[string]string{
		`eq(p:name(), "port0") eq(q:name(), "q") eq(p:bridge(), "net") eq(#p:mac(), 17) eq(#net:members(), 2)
			eq(tostring(p), "port(port0 on net)") p:close() p:close()
			eq(tostring(p), "port(port0 on net, closed)")`: "",
		`local f = ("\xff"):rep(6) .. "\2\0\0\0\0\1\x88\xb5hello" p:send(f) eq(q:recv(), f)
			eq(q:recv("10ms"), nil) eq(q:recv(0), nil) eq(p:recv(0), nil) eq(p:counters().tx_packets, 1)
			eq(q:counters().rx_bytes, 19) eq(q:counters().dropped, 0)`: "",
		`local w = net:port({promiscuous = true}) q:send(("\2"):rep(12) .. "to") p:send(("\2"):rep(6)
			.. ("\4"):rep(6) .. "to") eq(#q:recv(1), 14) eq(#w:recv(1), 14) eq(#w:recv(1), 14)`: "",
		`net:add_latency({from = p, to = "q", ms = 5}) eq(net:latency_ms(p, q), 5) net:partition(a, p)
			net:partition({from = q, to = a}) eq(net:is_partitioned(p, "a"), true) eq(net:is_partitioned(q, a), true)
			eq(net:is_partitioned(a, q), false) net:isolate(q) eq(net:is_isolated("q"), true) net:unisolate("q")
			net:partition_all() eq(net:is_partitioned(p, q), true) net:restore_all() net:isolate(q) q:close()
			q = net:port({name = "q"}) eq(net:is_isolated(q), false)`: "",

		`p:send("short")`:                         "port:send: the frame has 5 bytes; an Ethernet frame has 14 to 9238",
		`p:send(("x"):rep(9239))`:                 "port:send: the frame has 9239 bytes",
		`p:send()`:                                "port:send: argument 1 (frame) must be a string, got nil",
		`p:recv("x")`:                             "port:recv: argument 1 (timeout): duration: cannot parse `x`",
		`p:recv(-1)`:                              "(timeout): duration: must be a finite, non-negative number",
		`p:close() p:send(("x"):rep(20))`:         "port:send: port closed",
		`net:close() p:recv()`:                    "port:recv: port closed",
		`net:port({nam = "x"})`:                   "bridge:port: unknown option `nam` (valid: name, promiscuous)",
		`net:port({name = ""})`:                   "bridge:port: opts.name must not be empty",
		`net:port({name = "a"})`:                  "bridge:port: bridge `net` cannot have two members called `a`",
		`net:port({name = "c"})`:                  "bridge:port: bridge `net` cannot have two members called `c`",
		`net:port({name = ".1"})`:                 "port name `.1` is not valid",
		`net:port({promiscuous = 1})`:             "bridge:port: opts.promiscuous must be true or false",
		`net:partition(p, "port0")`:               "both are port `port0`",
		`net:partition({from = p, to = p})`:       "from and to are both port `port0`",
		`p:close() net:isolate(p)`:                "bridge:isolate: argument 1 (vm): port `port0` is closed",
		`provium:bridge("b2"):isolate(p)`:         "port `port0` is on bridge `net`, not `b2`",
		`net:attach(p)`:                           "must be a vm or the name of one, got port",
		`provium:vm("q", "host") net:attach("q")`: "cannot have two members called `q`: a port has the name",
	})
	s := apitest.New(t, host(t))
	if err := s.Run(attached + `local p, q = net:port(), net:port()
		local f = ("\xff"):rep(6) .. ("\2"):rep(6) .. ("x"):rep(9000)
		repeat p:send(f) until q:counters().dropped == 2 q:recv() q:recv() p:close()`); err != nil {
		t.Fatal(err)
	}
	want := "port `port1` on bridge `net` lost 2 frames, since 4 MiB of frames waited for port:recv"
	if got := strings.Join(s.Warnings, "\n"); got != want {
		t.Error(got)
	}
	if n := len(s.Owned[binding.PortResource]); n != 1 {
		t.Errorf("%d ports to be closed", n)
	}
}

// What belongs to a scope that has ended is refused.
func TestEnded(t *testing.T) {
	s := apitest.New(t, host(t))
	if err := s.Run(`vm = provium:vm("a", "host") net = provium:bridge("net") net:attach(vm) nic = net:nic(vm)
		other = provium:bridge("other")`); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vm", "net"} {
		s.Gone[s.State.Global(name).(*lua.Userdata).Object()] = "test `it`"
	}
	for source, want := range map[string]string{
		`net:members()`:               "bridge:members: bridge `net` belongs to test `it`, which has ended",
		`nic:disconnect()`:            "nic:disconnect: bridge `net` belongs to test `it`, which has ended",
		`other:attach(vm)`:            "bridge:attach: vm `a` belongs to test `it`, which has ended",
		`other:route(net)`:            "bridge:route: bridge `net` belongs to test `it`, which has ended",
		`assert(net:name() == "net")`: "",
	} {
		err := s.Run(source)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
