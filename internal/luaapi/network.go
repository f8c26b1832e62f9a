package luaapi

import (
	"fmt"
	"slices"
)

func networkClasses() []Class {
	capture := options(
		opt("nanoseconds", "boolean", "false", "times in nanoseconds"),
		opt("filter", "string", "", "an expression of tcpdump"))
	further := options(opt("nic", "string", "", "name of a further NIC of the VM on this bridge"))
	return []Class{{
		Name: "bridge", Kind: Handle, Title: "Bridges", Page: "network.md",
		Text: "A layer-2 switch. VMs are given by handle or by name.",
		Methods: slices.Concat([]Function{
			fn("name() -> string", "Returns the name."),
			fn("seed() -> integer", "Returns the seed of the impairments."),
			fn("attach(vm: vm|string|table, opts?: options)", "Attaches VMs, before their boot or while they run.",
				further, example(`wan:attach({hq, shop})`)),
			fn("detach(vm: vm|string, opts?: options)", "Detaches a VM, with all rules that name it.", further),
			fn("members() -> string[]", "Returns the names of attached VMs, in order of attaching."),
			fn("nic(vm: vm|string, opts?: options) -> nic", "Returns the NIC of a VM.", further),
			fn("close()", "Detaches all members and unplugs their NICs."),
			fn("capture(opts?: options) -> stream", "Returns a stream of every frame that enters the bridge, as pcap.",
				capture, example(`
local cap = wan:capture({filter = "udp port 53"})
for _, p in ipairs(cap:packets("1s")) do t:log(p.text) end`)),
			fn("port(opts?: options) -> port", "Opens a port by which the test sends and receives frames.", options(
				opt("name", "string", "port0, port1, ...", "name of the port"),
				opt("promiscuous", "boolean", "false", "it receives the frames between other members, too"))),
		}, partitionMethods(), impairmentMethods(), routeMethods(), serveMethods()),
	}, {
		Name: "nic", Kind: Handle, Title: "NICs", Page: "network.md#nics",
		Text: "The NIC of a VM on a bridge.",
		Methods: []Function{
			fn("vm_name() -> string", "Returns the name of the VM."),
			fn("bridge() -> string", "Returns the name of the bridge."),
			fn("mac() -> string", "Returns the hardware address."),
			fn("ip() -> string|nil", "Returns the IPv4 address, nil without addressing."),
			fn("counters() -> counters", "Returns the traffic, from the guest's point of view."),
			fn("capture(opts?: options) -> stream",
				"Returns a stream of what the guest sends, and of what reaches it after all rules, as pcap.", capture),
			fn("disconnect()", "Turns the carrier off."),
			fn("reconnect()", "Turns the carrier on."),
		},
	}, {
		Name: "port", Kind: Handle, Title: "Ports of the test", Page: "network.md#ports-of-the-test",
		Text: "A member of a bridge by which the test sends and receives frames.",
		Methods: []Function{
			fn("name() -> string", "Returns the name."),
			fn("bridge() -> string", "Returns the name of the bridge."),
			fn("mac() -> string", "Returns an address for the test's frames."),
			fn("send(frame: string)", "Sends an Ethernet frame without checksum, 14 to 9,238 bytes."),
			fn("recv(timeout?: duration) -> string|nil",
				"Returns the oldest frame that waits, else the next one; nil at the timeout (10 s)."),
			fn("counters() -> counters", "Returns the traffic, from the test's point of view."),
			fn("close()", "Takes the port off the bridge."),
		},
	}, {
		Name: "dhcp_server", Kind: Handle, Title: "DHCP servers", Page: "network.md#dhcp",
		Methods: serverMethods(fn("leases() -> lease[]", "Returns the leases, by address.")),
	}, {
		Name: "ra_server", Kind: Handle, Title: "Servers of router advertisements",
		Page:    "network.md#router-advertisements",
		Methods: serverMethods(fn("counters() -> ra_counters", "Returns how many advertisements were sent.")),
	}, {
		Name: "dns_server", Kind: Handle, Title: "DNS servers", Page: "network.md#dns",
		Methods: serverMethods(
			fn("queries() -> dns_query[]", "Returns the latest 10,000 queries, oldest first."),
			fn("set(name: string, record?: string|table)", "Changes the record of a name; nil removes it.",
				example(`dns:set("web.test", {rcode = "servfail"})`))),
	}}
}

func serverMethods(more ...Function) []Function {
	return append(more,
		fn("stop()", "Takes the server off the bridge."),
		fn("address() -> string, string", "Returns its addresses."))
}

func partitionMethods() []Function {
	pair := options(opt("from", "vm|port|string", "", "sender"), opt("to", "vm|port|string", "", "receiver"))
	return []Function{
		fn("partition(a: vm|port|string|options, b?: vm|port|string)",
			"Stops all frames between two members, or in one direction.", pair,
			example("wan:partition(hq, shop)\nwan:partition({from = hq, to = shop})")),
		fn("unpartition(a: vm|port|string|options, b?: vm|port|string)", "Ends a partition.", pair),
		fn("partition_all()", "Partitions every pair of members, also of later ones."),
		fn("restore_all()", "Removes every partition."),
		fn("is_partitioned(a: vm|port|string, b: vm|port|string) -> boolean",
			"Reports whether a partition stops frames from a to b."),
		fn("isolate(vm: vm|port|string)", "Cuts a member off from all others, also through routes."),
		fn("unisolate(vm: vm|port|string)", "Ends that."),
		fn("is_isolated(vm: vm|port|string) -> boolean", "Reports whether a member is isolated."),
		fn("reset()", "Removes impairments and partitions, and keeps isolation."),
	}
}

// impairment makes a method that takes a number for the whole bridge, or a table for one
// direction.
func impairment(name, key, unit, text string, more ...Option) Function {
	return fn(fmt.Sprintf("%s(%s: number|options, details?: details)", name, key), text,
		directionOptions(key, unit, more...), details(more...))
}

func directionOptions(key, unit string, more ...Option) detail {
	return options(append([]Option{
		opt("from", "vm|port|string", "", "sender"),
		opt("to", "vm|port|string", "", "receiver"),
		opt(key, "number", "", unit)}, more...)...)
}

// getter makes a method that returns a rule of the whole bridge, or of a pair.
func getter(name, result, text string) Function {
	return fn(name+"(from?: vm|port|string, to?: vm|port|string) -> "+result, text+
		" Without arguments it is that of the whole bridge.")
}

func impairmentMethods() []Function {
	burst := opt("burst", "number", "", "average number of frames lost in a row")
	ge := impairmentGE()
	return []Function{
		impairment("add_latency", "ms", "milliseconds", "Delays frames, one way."),
		impairment("add_jitter", "ms", "milliseconds", "Varies the delay. Frames keep their order.",
			opt("distribution", "string", `"uniform"`, `"uniform", "normal" or "pareto"`)),
		impairment("drop_rate", "p", "percent", "Loses a percentage of frames.", burst),
		impairment("duplicate_rate", "p", "percent", "Doubles a percentage of frames."),
		impairment("reorder_rate", "p", "percent", "Has a percentage of frames overtake those that wait."),
		impairment("corrupt_rate", "p", "percent", "Flips a bit in a percentage of frames."),
		impairment("bandwidth_limit", "bps", "bits per second", "Limits the bandwidth.",
			opt("queue", "size", "half a second of traffic", "bytes that may wait")),
		fn("add_directional_latency(rule: options)", "As add_latency with a table.",
			directionOptions("ms", "milliseconds")),
		fn("directional_drop_rate(rule: options)", "As drop_rate with a table.",
			directionOptions("p", "percent", burst)),
		ge,
		getter("latency_ms", "number", "Returns the latency in milliseconds."),
		getter("jitter_ms", "number", "Returns the jitter in milliseconds."),
		getter("jitter_distribution", "string", "Returns the distribution of the jitter."),
		getter("drop_rate_pct", "number", "Returns the percentage of lost frames."),
		getter("loss_model", "loss_model|nil", "Returns the model of lost frames, nil where losses are independent."),
		getter("duplicate_rate_pct", "number", "Returns the percentage of doubled frames."),
		getter("reorder_rate_pct", "number", "Returns the percentage of frames that overtake."),
		getter("corrupt_rate_pct", "number", "Returns the percentage of damaged frames."),
		getter("bandwidth_bps", "number", "Returns the bandwidth in bits per second."),
		getter("bandwidth_queue", "integer", "Returns how many bytes may wait."),
	}
}

func impairmentGE() Function {
	return fn("gilbert_elliott(rule: options)", "Loses frames in bursts: a link is good or bad.", options(
		opt("from", "vm|port|string", "", "sender; without from and to, the whole bridge"),
		opt("to", "vm|port|string", "", "receiver"),
		opt("enter", "number", "", "percent of frames at which a good link turns bad"),
		opt("leave", "number", "", "percent of frames at which a bad link turns good"),
		opt("good", "number", "0", "percent of frames lost by a good link"),
		opt("bad", "number", "100", "percent of frames lost by a bad link")))
}

func routeMethods() []Function {
	return []Function{
		fn("route(other: bridge|string|table)", "Connects bridges in both directions, for IPv4 and IPv6."),
		fn("routes() -> string[]", "Returns the names of connected bridges."),
		fn("enable_uplink()", "Lets guests reach other networks by TCP, UDP and ping."),
		fn("disable_uplink()", "Ends that, and resets its connections."),
		fn("forward(opts: options) -> string",
			"Returns an address of the host's loopback at which a port of a member answers.", options(
				opt("vm", "vm|string", "", "whose port"),
				opt("port", "integer", "", "port in the guest"),
				opt("protocol", "string", `"tcp"`, `"tcp" or "udp"`)),
			example(`local address = lan:forward({vm = web, port = 80})`)),
	}
}

func serveMethods() []Function {
	return []Function{
		fn("serve_dhcp(opts?: options) -> dhcp_server", "Starts a DHCP server for IPv4.", options(
			opt("subnet", "string", "the bridge's", "network in which clients get addresses"),
			opt("address", "string", "last free one", "of the server"),
			opt("range", "string[]", "", "first and last address for any client"),
			opt("router", "string|string[]", "the gateway", "{} sends no router"),
			opt("dns", "string|string[]", "the gateway", "name servers; {} sends no name server"),
			opt("ntp", "string|string[]", "", "time servers"),
			opt("domain", "string", "", "name of the domain"),
			opt("mtu", "integer", "", "MTU"),
			opt("lease", "duration", `"1h"`, "how long addresses are valid"),
			opt("hosts", "table", "", "client = address, or {address=, hostname=}"),
			opt("boot_file", "string", "", "for clients that boot from the network"),
			opt("next_server", "string", "", "for clients that boot from the network"),
			opt("options", "table", "", "further options, number = bytes"))),
		fn("serve_ra(opts?: options) -> ra_server", "Sends router advertisements.", options(
			opt("prefix", "string|string[]", "the bridge's /64", "{} sends no prefix"),
			opt("autonomous", "boolean", "true", "guests make addresses from the prefixes"),
			opt("valid", "duration", `"24h"`, "how long prefixes are valid"),
			opt("preferred", "duration", `"4h"`, "how long prefixes are preferred"),
			opt("lifetime", "duration", `"30m"`, "as a default router; 0 says that it is not one"),
			opt("managed", "boolean", "false", "addresses come from DHCPv6"),
			opt("other", "boolean", "false", "other things come from DHCPv6"),
			opt("hop_limit", "integer", "64", "hop limit"),
			opt("preference", "string", `"medium"`, `"low", "medium" or "high"`),
			opt("reachable", "duration", "", "time of neighbour discovery"),
			opt("retransmit", "duration", "", "time of neighbour discovery"),
			opt("mtu", "integer", "", "MTU"),
			opt("rdnss", "string|string[]", "", "name servers"),
			opt("search", "string|string[]", "", "search domains"),
			opt("interval", "duration", "10", "time between advertisements"))),
		fn("serve_dns(opts?: options) -> dns_server", "Starts a DNS server.", options(
			opt("records", "table", "",
				"name = an address, an array of addresses, or a table with rcode, drop, delay and ttl, too"),
			opt("zone", "string", "", "further records, as text of a zone file"),
			opt("unknown", "string", `"nxdomain"`, `for other names: an rcode, or "drop"`),
			opt("delay", "duration", "0", "before each answer"),
			opt("ttl", "duration", `"1m"`, "of records that have no other"),
			opt("address", "string|string[]", "last free ones", "of the server")),
			example(`local dns = lan:serve_dns{records = {["web.test"] = "192.0.2.9"}}`)),
	}
}
