package netapi_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"provium/internal/fakemachine"
	"provium/internal/lab"
	"provium/internal/script/apitest"
)

func fakeHost(t testing.TB) *lab.Host {
	f := fakemachine.New(t)
	return &lab.Host{File: "x.test.lua", ConfigPath: "provium.toml", TempDir: t.TempDir(), Starter: f, Images: f, Seed: 7,
		Profiles: map[string]*lab.Profile{"host": {Name: "host", Accel: "tcg"}},
		Warn:     func(format string, args ...any) { t.Errorf("warning: "+format, args...) }}
}

// prefix declares two bridges, of which `lan` has three members that are not booted.
const prefix = `
local lan, wan = provium:bridge("lan"), provium:bridge("wan", {addressing = "none", seed = 3})
local a, b, c = provium:vm("a", "host"), provium:vm("b", "host"), provium:vm("c", "host")
lan:attach({a, "b"}) lan:attach(c)
local function eq(x, y) if x ~= y then error(tostring(x) .. " ~= " .. tostring(y), 2) end end
`

func TestBridge(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`eq(lan:name(), "lan") eq(tostring(lan), "bridge(lan)") eq(wan:seed(), 3)`:                          "",
		`eq(table.concat(provium:bridge_names(), " "), "lan wan") eq(provium:bridge("lan"), lan)`:           "",
		`eq(table.concat(lan:members(), " "), "a b c") lan:detach(b) eq(table.concat(lan:members()), "ac")`: "",
		`wan:close() wan:close()`:                    "",
		`provium:bridge(1)`:                          "lab:bridge: argument 1 (name) must be a string, got number",
		`provium:bridge("x", {speed = 1})`:           "unknown option `speed` (valid: seed, addressing)",
		`provium:bridge("x", {seed = "1"})`:          "opts.seed must be an integer, got string",
		`provium:bridge("x", {addressing = "dhcp"})`: `opts.addressing must be "none" or "auto", got dhcp`,
		`provium:bridge("")`:                         "name",
		`lan:attach("")`:                             "argument 1 (vm) must not be empty",
		`lan:attach({a, 5})`:                         "element 2 of the list must be a vm or the name of one, got number",
		`lan:attach({x = a})`:                        "argument 1 must be an array, it has the key `x`",
		`lan:attach()`:                               "argument 1 (vm) must be a vm or the name of one, got nil",
		`lan:attach(wan)`:                            "must be a vm or the name of one, got bridge",
		`lan:detach("nobody")`:                       "nobody",
		`wan:detach(a)`:                              "a",
	})
}

func TestPartitions(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`lan:partition(a, "b") eq(lan:is_partitioned("b", a), true) eq(lan:is_partitioned(a, c), false)`: "",
		`lan:partition(a, b) lan:unpartition(b, a) eq(lan:is_partitioned(a, b), false)`:                  "",
		`lan:partition{from = a, to = b} eq(lan:is_partitioned(a, b), true) eq(lan:is_partitioned(b, a), false)
		 lan:unpartition{from = a, to = b} eq(lan:is_partitioned(a, b), false)`: "",
		`lan:partition_all() eq(lan:is_partitioned(b, c), true) lan:restore_all() eq(lan:is_partitioned(b, c), false)`: "",
		`lan:isolate(a) eq(lan:is_isolated("a"), true) lan:unisolate("a") eq(lan:is_isolated(a), false)`:               "",
		`lan:partition(a, "a")`:                      "both are vm `a` (they must differ)",
		`lan:partition(a)`:                           "argument 2 (b) must be a vm or the name of one, got nil",
		`lan:partition{from = a}`:                    "`to` is missing (a table needs from and to",
		`lan:partition{from = a, to = a}`:            "from and to are both vm `a`",
		`lan:partition{from = a, to = 1}`:            "`to` must be a vm or the name of one, got number",
		`lan:partition{from = a, to = "nobody"}`:     "nobody",
		`lan:partition{from = a, to = b, ms = 1}`:    "unknown option `ms` (valid: from, to)",
		`lan:unpartition{from = "x", to = "nobody"}`: "",
		`lan:is_partitioned(a, 1)`:                   "argument 2 (b) must be",
		`lan:is_isolated()`:                          "argument 1 (vm) must be",
		`lan:isolate({})`:                            "argument 1 (vm) must be",
	})
}

func TestImpairments(t *testing.T) {
	cases := map[string]string{
		`lan:add_latency(5) lan:add_latency{from = a, to = b, ms = 7.5} eq(lan:latency_ms(), 5)
		 eq(lan:latency_ms(a, b), 7.5) eq(lan:latency_ms(b, a), 5)`: "",
		`lan:add_jitter(2, {distribution = "pareto"}) eq(lan:jitter_distribution(), "pareto") eq(lan:jitter_ms(), 2)`: "",
		`lan:add_jitter(2) eq(lan:jitter_distribution(a, b), "uniform")`:                                              "",
		`lan:drop_rate(250) eq(lan:drop_rate_pct(), 100)`:                                                             "",
		`lan:drop_rate(20, {burst = 4}) local m = lan:loss_model() eq(m.leave, 25) eq(m.enter, 6.25) eq(m.bad, 100)`:  "",
		`lan:drop_rate(0, {burst = 4}) eq(lan:loss_model(), nil)`:                                                     "",
		`lan:drop_rate(5) eq(lan:loss_model(), nil) eq(lan:loss_model(a, b), nil)`:                                    "",
		`lan:bandwidth_limit(1e6, {queue = "64K"}) eq(lan:bandwidth_queue(), 65536) eq(lan:bandwidth_bps(), 1000000)`: "",
		`lan:add_directional_latency{from = a, to = b, ms = 3} eq(lan:latency_ms(a, b), 3) eq(lan:latency_ms(), 0)`:   "",
		`lan:directional_drop_rate{from = a, to = b, p = 3} eq(lan:drop_rate_pct(a, b), 3)`:                           "",
		`lan:gilbert_elliott{enter = 10, leave = 30} eq(lan:drop_rate_pct(), 25) eq(lan:loss_model().good, 0)`:        "",
		`lan:gilbert_elliott{enter = 10, leave = 30, bad = 50, good = 1, from = a, to = b}
		 eq(lan:loss_model(a, b).bad, 50) eq(lan:loss_model(), nil)`: "",
		`lan:gilbert_elliott{enter = 10, leave = 30} lan:gilbert_elliott{enter = 0, leave = 0} eq(lan:loss_model(), nil)`: "",

		`lan:add_latency("5")`:                                "must be a number or a table {from=, to=, ms=}, got string",
		`lan:add_latency(-1)`:                                 "argument 1 must be a finite, non-negative number, got -1",
		`lan:add_latency(0/0)`:                                "must be a finite, non-negative number",
		`lan:add_latency(1, {burst = 2})`:                     "unknown option `burst`",
		`lan:add_latency{from = a, to = b}`:                   "`ms` must be a number, got nil",
		`lan:add_latency{from = a, to = "nobody", ms = 1}`:    "nobody",
		`lan:add_directional_latency(5)`:                      "(rule) must be a table {from=, to=, ms=}, got number",
		`lan:add_jitter(1, {distribution = "gauss"})`:         "opts.distribution = `gauss`",
		`lan:add_jitter(1, {distribution = 1})`:               "opts.distribution must be a string, got number",
		`lan:drop_rate(5, {burst = 0.5})`:                     "opts.burst must be at least 1",
		`lan:drop_rate(90, {burst = 2})`:                      "must be at least 9 where 90 % of the frames are lost, got 2",
		`lan:drop_rate{from = a, to = b, p = 5, burst = {}}`:  "opts.burst must be a number, got table",
		`lan:bandwidth_limit(1, {queue = "x"})`:               "opts.queue cannot parse size `x`",
		`lan:gilbert_elliott(1)`:                              "(rule) must be a table {enter=, leave=, good=, bad=}",
		`lan:gilbert_elliott{leave = 1}`:                      "`enter` must be a number, got nil",
		`lan:gilbert_elliott{enter = 1, leave = 0}`:           "`leave` must be more than 0, got 0",
		`lan:gilbert_elliott{enter = 1, leave = 1, from = a}`: "`to` is missing",
		`lan:gilbert_elliott{enter = 1, leave = 1, x = a}`:    "unknown option `x`",
		`lan:latency_ms(a)`:                                   "argument 2 (to) must be a vm",
	}
	for _, rate := range []string{"duplicate", "reorder", "corrupt"} {
		source := `lan:RATE_rate(3) eq(lan:RATE_rate_pct(), 3) lan:reset() eq(lan:RATE_rate_pct(), 0)`
		cases[strings.ReplaceAll(source, "RATE", rate)] = ""
	}
	apitest.Check(t, fakeHost, prefix, cases)
}

func TestRoutes(t *testing.T) {
	more := `local east, west = provium:bridge("east"), provium:bridge("west") `
	apitest.Check(t, fakeHost, prefix+more, map[string]string{
		`lan:route(east) eq(table.concat(lan:routes()), "east") eq(table.concat(east:routes()), "lan")`: "",
		`lan:route({east, west}) eq(table.concat(lan:routes(), " "), "east west")`:                      "",
		`lan:enable_uplink() lan:disable_uplink()`:                                                      "",
		`lan:route()`:          "argument 1 (other) must be a bridge, got nil",
		`lan:route({east, a})`: "element 2 of the list must be a bridge, got vm",
		`lan:route({x = 1})`:   "argument 1 must be an array",
		`lan:route(lan)`:       "lan",
		`local at = lan:forward{vm = a, port = 80} assert(at:match("^127%.0%.0%.1:%d+$"), at)`:                           "",
		`assert(lan:forward{vm = "a", port = 53, protocol = "udp"} ~= lan:forward{vm = a, port = 53, protocol = "tcp"})`: "",
		`lan:forward(80)`:                                  "argument 1 (opts) must be a table {vm=, port=}, got number",
		`lan:forward{port = 80}`:                           "`vm` is missing",
		`lan:forward{vm = 5, port = 80}`:                   "`vm` must be a vm or the name of one, got number",
		`lan:forward{vm = a}`:                              "`port` is missing",
		`lan:forward{vm = a, port = "80"}`:                 "opts.port must be an integer, got string",
		`lan:forward{vm = a, port = 65536}`:                "opts.port must be from 1 to 65535, got 65536",
		`lan:forward{vm = a, port = 1, protocol = "sctp"}`: `opts.protocol must be "tcp" or "udp", got sctp`,
		`lan:forward{vm = "nobody", port = 1}`:             "nobody",
		`lan:forward{vm = a, port = 1, address = "x"}`:     "unknown option `address`",
	})
}

func TestNICs(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`local n = lan:nic(a) eq(n, a:nic("lan")) eq(tostring(n), "nic(a on lan)") eq(n:vm_name(), "a") eq(n:bridge(), "lan")
		 assert(n:mac():match("^%x%x:%x%x:%x%x:%x%x:%x%x:%x%x$")) assert(n:ip())`: "",
		`wan:attach(a) eq(wan:nic(a):ip(), nil)`: "",
		`local k = lan:nic("b"):counters() eq(k.rx_bytes + k.tx_bytes + k.rx_packets + k.tx_packets + k.errors, 0)`: "",
		`a:boot() local n = lan:nic(a) n:disconnect() n:reconnect()`:                                                "",
		`lan:nic("nobody")`: "nobody",
		`lan:nic()`:         "argument 1 (vm) must be a vm or the name of one, got nil",
		`a:nic("wan")`:      "wan",
		`a:nic(1)`:          "argument 1 (name) must be a string, got number",
	})
}

func TestCapture(t *testing.T) {
	apitest.Check(t, fakeHost, prefix, map[string]string{
		`local s = lan:capture({filter = "arp", nanoseconds = true}) eq(#s:packets(0), 0)`: "",
		`a:boot() local s = lan:nic(a):capture() eq(#s:packets(0), 0) s:close()`:           "",
		`lan:nic(a):capture()`:            "has no live port on bridge `lan` (not booted?)",
		`lan:capture({filter = 1})`:       "opts.filter must be a string, got number",
		`lan:capture({filter = "arp ("})`: "column",
		`lan:capture({nanoseconds = 1})`:  "opts.nanoseconds must be true or false, got number",
		`lan:capture({snaplen = 1})`:      "unknown option `snaplen`",
		`lan:capture():packets("x")`:      "argument 1 (timeout): duration: cannot parse `x`",
	})
}

// TestEnded calls methods on objects whose scope has ended.
func TestEnded(t *testing.T) {
	s := apitest.New(t, fakeHost(t))
	if err := s.Run(prefix + `provium.kept = lan provium.vm_kept = a provium.nic_kept = lan:nic(a)`); err != nil {
		t.Fatal(err)
	}
	lan, err := s.Root().Bridge("lan", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Gone = map[any]string{lan: "test `first`"}
	use := `local lan, a, nic, wan = provium.kept, provium.vm_kept, provium.nic_kept, provium:bridge("wan") `
	for source, want := range map[string]string{
		`assert(lan:name() == "lan")`: "",
		`lan:members()`:               "bridge:members: bridge `lan` belongs to test `first`, which has ended",
		`wan:route(lan)`:              "bridge:route: bridge `lan` belongs to test `first`, which has ended",
		`nic:disconnect()`:            "nic:disconnect: bridge `lan` belongs to test `first`, which has ended",
	} {
		err := s.Run(use + source)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", source, err, want)
		}
	}
	vm, ok := s.Root().VM("a")
	if !ok {
		t.Fatal("vm `a` is gone")
	}
	s.Gone = map[any]string{vm: "test `first`"}
	err = s.Run(use + `lan:isolate(a)`)
	if want := "vm `a` belongs to test `first`"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestPackets has a guest send frames, and checks the tables that a capture has of them.
func TestPackets(t *testing.T) {
	const (
		macs    = "020000000002" + "020000000001"
		ip4     = "45000000" + "00004000" + "40060000" + "0a4d0002" + "0a4d0003"
		ip6     = "60000000" + "00001140" + "fd000000000000000000000000000002" + "fd000000000000000000000000000003"
		segment = "0050" + "1267" + "00000001" + "00000002" + "5012" + "0100" + "00000000"
	)
	f := fakemachine.New(t)
	host := fakeHost(t)
	host.Starter, host.Images = f, f
	s := apitest.New(t, host)
	err := s.Run(prefix + `lan:detach(b) lan:detach(c) a:boot()
		provium.capture = lan:capture() provium.capture:packets(0)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ frame, check string }{
		{macs + "0800" + ip4 + segment + "68656c6c6f", `eq(p.proto, "tcp") eq(p.payload, "hello") eq(p.eth_type, 0x800)
			eq(p.eth_src, "02:00:00:00:00:01") eq(p.eth_dst, "02:00:00:00:00:02") eq(p.src, "10.77.0.2") eq(p.dst, "10.77.0.3")
			eq(p.src_port, 80) eq(p.dst_port, 4711) eq(p.seq, 1) eq(p.ack, 2) eq(p.window, 256) eq(p.flags.syn, true)
			eq(p.flags.ack, true) eq(p.flags.fin, nil) eq(p.ttl, 64) eq(p.ip_proto, 6) eq(p.fragment, false) eq(p.vlan, nil)
			eq(p.length, #p.raw) eq(p.text, "10.77.0.2:80 > 10.77.0.3:4711 tcp [syn ack] 5 bytes") eq(p.type, nil)
			assert(math.abs(p.time - p.time_ns / 1e9) < 1e-3)`},
		{macs + "81000005" + "86dd" + ip6 + "0035" + "14e9" + "000c" + "0000" + "64617461", `eq(p.proto, "udp") eq(p.vlan, 5)
			eq(#p.vlans, 1) eq(p.src, "fd00::2") eq(p.src_port, 53) eq(p.payload, "data") eq(p.flags, nil)`},
		{macs + "0800" + strings.Replace(ip4, "40060000", "40010000", 1) + "0800000000010001",
			`eq(p.proto, "icmp") eq(p.type, 8) eq(p.code, 0) eq(p.src_port, nil)`},
		{macs + "0806" + "0001080006040001" + "020000000001" + "0a4d0002" + "000000000000" + "0a4d0003", `eq(p.proto, "arp")
			eq(p.operation, 1) eq(p.src, "10.77.0.2") eq(p.ttl, nil)`},
		{macs + "88b5" + "78", `eq(p.proto, "ether") eq(p.src, nil) eq(p.payload, "x")`},
	} {
		frame, err := hex.DecodeString(c.frame)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Named("a").SendFrame(1, frame); err != nil {
			t.Fatal(err)
		}
		err = s.Run(`local function eq(x, y) if x ~= y then error(tostring(x) .. " ~= " .. tostring(y), 2) end end
			local all repeat all = provium.capture:packets("20ms") until #all > 0
			eq(#all, 1) local p = all[1] ` + c.check)
		if err != nil {
			t.Errorf("%s: %v", c.frame, err)
		}
	}
}
