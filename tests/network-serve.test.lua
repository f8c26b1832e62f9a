-- Servers of the bridge itself, with the clients of one guest: udhcpc, the kernel's
-- autoconfiguration, and the resolver. The bridge has no addressing, so what the guest has
-- comes from them.

local vm = provium:vm("client", "host", {memory = "128M"})
local lan = provium:bridge("lan", {addressing = "none"})
lan:attach(vm)
vm:boot()
vm:run("echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra; echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip link set eth0 up"):assert_ok()
vm:write_file("/lease.sh", [[#!/bin/sh
case "$1" in
bound|renew) ip addr flush dev eth0 scope global; ip addr add $ip/$mask dev eth0; set > /lease;;
deconfig) ip -4 addr flush dev eth0;;
esac
exit 0
]])
vm:run("chmod +x /lease.sh"):assert_ok()

local function lease()
  return vm:run("udhcpc -i eth0 -s /lease.sh -n -q -f -t 10 -T 3 -O hostname -O mtu", {timeout = "60s"}):assert_ok()
end

test("a guest gets a lease", {timeout = "2m"}, function(t)
  local dhcp = lan:serve_dhcp{subnet = "192.0.2.0/24", address = "192.0.2.1", range = {"192.0.2.40", "192.0.2.49"},
    router = "192.0.2.1", dns = {"192.0.2.53"}, domain = "example.test", lease = "10m"}
  lease()
  t:assert_contains(vm:run("ip -o -4 addr show eth0").stdout, "192.0.2.40/24")
  local said = vm:read_file("/lease")
  for _, line in ipairs({"router='192.0.2.1'", "dns='192.0.2.53'", "domain='example.test'", "lease='600'", "hostname='client'"}) do
    t:assert_contains(said, line)
  end
  local leases = dhcp:leases()
  t:assert_eq(#leases, 1)
  t:assert_eq(leases[1].address, "192.0.2.40")
  t:assert_eq(leases[1].vm, "client")
  t:assert_eq(leases[1].mac, lan:nic(vm):mac())
  vm:run("ping -c 1 -W 10 192.0.2.1"):assert_ok()
  dhcp:stop()
  t:assert_eq(tostring(dhcp), "dhcp_server(lan, stopped)")
end)

test("the address of the NIC is the default, and a VM can have one of its own", {timeout = "2m"}, function(t)
  local dhcp = lan:serve_dhcp{}
  lease()
  local own = dhcp:leases()[1].address
  t:assert_eq(own, (dhcp:address():gsub("%d+$", "2")))
  dhcp:stop()
  lan:serve_dhcp{subnet = "192.0.2.0/24", hosts = {[vm] = {address = "192.0.2.77", hostname = "box"}}}
  lease()
  t:assert_contains(vm:run("ip -o -4 addr show eth0").stdout, "192.0.2.77/24")
  t:assert_contains(vm:read_file("/lease"), "hostname='box'")
end)

test("the kernel takes the prefix of a router", {timeout = "2m"}, function(t)
  local ra = lan:serve_ra{prefix = "fd00:5::/64", interval = "200ms", mtu = 1400}
  wait_until(function()
    return vm:run("ip -6 -o addr show eth0 scope global").stdout:find("fd00:5::", 1, true)
  end, {timeout = "60s"})
  t:assert_contains(vm:run("ip -6 route show default").stdout, "via " .. ra:address())
  t:assert_eq(vm:read_file("/proc/sys/net/ipv6/conf/eth0/mtu"), "1400\n")
  t:assert(ra:counters().sent >= 1)
  ra:stop()
end)

test("names resolve, and fail as they are told to", {timeout = "2m"}, function(t)
  local dns = lan:serve_dns{address = "192.0.2.53", records = {
    ["web.example.test"] = {"192.0.2.9", "fd00:5::9"}, ["bad.example.test"] = {rcode = "servfail"}}}
  vm:run("ip addr flush dev eth0 scope global; ip addr add 192.0.2.2/24 dev eth0; echo nameserver 192.0.2.53 > /etc/resolv.conf"):assert_ok()
  local r = vm:run("nslookup web.example.test"):assert_ok()
  t:assert_contains(r.stdout, "192.0.2.9")
  t:assert_contains(r.stdout, "fd00:5::9")
  t:assert_contains(vm:run("nslookup none.example.test").stdout, "NXDOMAIN")
  t:assert_contains(vm:run("nslookup bad.example.test").stdout, "SERVFAIL")
  dns:set("web.example.test", "192.0.2.10")
  t:assert_contains(vm:run("nslookup web.example.test"):assert_ok().stdout, "192.0.2.10")
  local seen = {}
  for _, q in ipairs(dns:queries()) do
    t:assert_eq(q.from, "192.0.2.2")
    seen[q.name .. " " .. q.type] = q.answer
  end
  t:assert_eq(seen["web.example.test A"], "noerror")
  t:assert_eq(seen["web.example.test AAAA"], "noerror")
  t:assert_eq(seen["none.example.test A"], "nxdomain")
  t:assert_eq(seen["bad.example.test A"], "servfail")
end)
