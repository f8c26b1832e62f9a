-- Bridges, NICs and their rules. The first part needs no guest; then three small guests
-- share bridges.

local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

local small = {memory = "128M"}
local a = provium:vm("a", "host", small)
local b = provium:vm("b", "host", small)
local c = provium:vm("c", "host", small)
local wan = provium:bridge("wan", {seed = 7})
wan:attach({a, b})

-- reaches reports whether a ping gets an answer, which may be late.
local function reaches(from, to)
  return from:run("for i in 1 2 3 4 5; do ping -c 1 -W $i " .. to .. " && exit; done; exit 1"):ok()
end

-- misses reports whether a ping gets no answer within a second.
local function misses(from, to)
  return not from:run("ping -c 1 -W 1 " .. to):ok()
end

test("a bridge is created once and found by call and by dot", function(t)
  t:assert_eq(provium:bridge("wan"), wan)
  t:assert_eq(provium.wan, wan)
  t:assert_eq(provium.nothing, nil)
  t:assert_eq(wan:name(), "wan")
  t:assert_eq(tostring(wan), "bridge(wan)")
  local own = provium:bridge("own")
  t:assert_eq(table.concat(provium:bridge_names(), " "), "own")
  t:assert_eq(provium:members()[1].kind, "bridge")
  refused(t, function() provium:bridge("wan", {seed = 8}) end, "exists with seed 7")
  refused(t, function() provium:bridge("x", {sed = 8}) end, "unknown option", "sed", "seed", "addressing")
  refused(t, function() provium:bridge("pack") end, "reserved")
end)

test("members are in order of attaching; bad lists attach nobody", function(t)
  local lan = provium:bridge("lan")
  refused(t, function() lan:attach({c, 7, a}) end, "element 2", "number")
  t:assert_eq(#lan:members(), 0)
  provium:vm("later", "host")
  lan:attach({c, "later"})
  lan:attach(c)
  t:assert_eq(table.concat(lan:members(), " "), "c later")
  t:assert_eq(lan:nic("later"):counters().rx_packets, 0)
  lan:detach(c)
  refused(t, function() lan:nic(c) end, "bridge:nic", "not attached", "bridge:attach")
  refused(t, function() lan:detach("nobody") end, "not attached", "nobody")
  refused(t, function() lan:attach({a, "latr"}) end, "element 2", "no vm named `latr`", "did you mean `later`?")
end)

test("addresses are stable", function(t)
  local lan = provium:bridge("stable")
  lan:attach(c)
  local nic = lan:nic(c)
  local mac, ip = nic:mac(), nic:ip()
  t:assert(mac:match("^02:%x%x:%x%x:%x%x:%x%x:%x%x$"), mac)
  t:assert(ip:match("^10%.%d+%.%d+%.2$"), ip)
  lan:detach(c)
  provium:vm("other", "host")
  lan:attach({"other", c})
  t:assert_eq(lan:nic(c):mac(), mac)
  t:assert_eq(lan:nic(c):ip(), ip)
  t:assert_eq(lan:nic(c), nic)
  t:assert_eq(c:nic("stable"), nic)
  t:assert_eq(c:nic("eth0"), nic)
  t:assert_eq(c:nic("enp0s3"), nic)
  refused(t, function() c:nic("eth1") end, "vm:nic: no NIC `eth1` on vm `c`", "stable")
end)

test("rules are kept and looked up", function(t)
  local lan = provium:bridge("rules")
  for _, name in ipairs({"x", "y", "z", "late"}) do provium:vm(name, "host") end
  lan:attach({"x", "y", "z"})
  lan:add_latency(20)
  lan:add_latency({from = "x", to = "y", ms = 5})
  lan:add_directional_latency({from = "y", to = "z", ms = 1.5})
  t:assert_eq(lan:latency_ms(), 20)
  t:assert_eq(lan:latency_ms("x", "y"), 5)
  t:assert_eq(lan:latency_ms("y", "x"), 20)
  t:assert_eq(lan:latency_ms("y", "z"), 1.5)
  lan:add_latency({from = "x", to = "y", ms = 0})
  t:assert_eq(lan:latency_ms("x", "y"), 20)
  lan:drop_rate(250)
  t:assert_eq(lan:drop_rate_pct(), 100)
  lan:directional_drop_rate({from = "x", to = "y", p = 3})
  t:assert_eq(lan:drop_rate_pct("x", "y"), 3)
  lan:bandwidth_limit(2e6)
  t:assert_eq(lan:bandwidth_bps(), 2000000)
  lan:partition("x", "y")
  lan:partition({from = "z", to = "x"})
  lan:isolate("z")
  t:assert(lan:is_partitioned("y", "x") and lan:is_partitioned("z", "x"))
  t:assert(not lan:is_partitioned("x", "z"))
  lan:unpartition("x", "late")
  refused(t, function() lan:unpartition("x", "nobody") end, "no vm named `nobody`")
  lan:reset()
  t:assert_eq(lan:latency_ms(), 0)
  t:assert_eq(lan:drop_rate_pct("x", "y"), 0)
  t:assert(not lan:is_partitioned("x", "y"))
  t:assert(lan:is_isolated("z"))
  lan:partition_all()
  t:assert(lan:is_partitioned("x", "z"))
  lan:attach("late")
  t:assert(lan:is_partitioned("late", "x"), "a member that came later")
  lan:restore_all()
  t:assert(not lan:is_partitioned("x", "z") and not lan:is_partitioned("late", "x"))
  lan:partition("x", "y")
  lan:detach("x")
  lan:attach("x")
  t:assert(not lan:is_partitioned("x", "y"))
end)

test("bad rules say what is wrong", function(t)
  local lan = provium:bridge("bad")
  for _, name in ipairs({"x", "y"}) do lan:attach(provium:vm(name, "host")) end
  refused(t, function() lan:add_latency(-1) end, "bridge:add_latency", "non-negative", "-1")
  refused(t, function() lan:add_latency(0/0) end, "finite")
  refused(t, function() lan:drop_rate("5") end, "number", "string")
  refused(t, function() lan:drop_rate({to = "x", p = 5}) end, "`from` is missing")
  refused(t, function() lan:drop_rate({from = "x", to = "x", p = 5}) end, "differ")
  refused(t, function() lan:drop_rate({from = "x", to = "q", p = 5}) end, "not attached", "bridge:attach")
  refused(t, function() lan:drop_rate({from = "x", to = "y", ms = 5}) end, "unknown option", "ms")
  refused(t, function() lan:partition({from = "x", to = "q"}) end, "not attached")
  refused(t, function() lan:partition("x", "x") end, "differ")
  refused(t, function() lan:add_directional_latency(5) end, "table")
end)

test("guests reach each other by name, before and after a hot attach", function(t)
  provium:boot()
  t:assert(reaches(a, "b.wan"))
  t:assert(reaches(b, "a"))
  t:assert(misses(a, "c"))
  wan:attach(c)
  t:assert(reaches(c, "a"))
  t:assert(reaches(a, "c.wan"))
  t:assert(reaches(a, wan:nic(c):ip()))
  t:assert_contains(c:run("ip addr show eth0").stdout, wan:nic(c):mac())
  t:assert_contains(c:run("ip addr show eth0").stdout, wan:nic(c):ip() .. "/24")
end)

test("a second NIC on a bridge has its own device and address", function(t)
  wan:attach(c, {nic = "spare"})
  local spare = c:nic("spare")
  local addresses = c:run("ip addr"):assert_ok().stdout
  t:assert_contains(addresses, spare:mac())
  t:assert_contains(addresses, spare:ip() .. "/24")
  t:assert(spare:mac() ~= wan:nic(c):mac())
  t:assert(reaches(a, spare:ip()))
  wan:detach(c, {nic = "spare"})
  t:assert(reaches(a, "c"))
end)

test("a partition cuts two guests, and healing joins them", function(t)
  wan:partition(a, b)
  t:assert(misses(a, "b"))
  t:assert(reaches(a, "c"))
  wan:unpartition(a, b)
  t:assert(reaches(a, "b"))
  wan:partition({from = b, to = a})
  t:assert(misses(a, "b"))
  wan:restore_all()
  wan:isolate(c)
  t:assert(misses(a, "c"))
  t:assert(reaches(a, "b"))
  wan:unisolate(c)
  t:assert(reaches(a, "c"))
end)

test("the same seed loses the same frames", function(t)
  b:run("arp -s " .. wan:nic(a):ip() .. " " .. wan:nic(a):mac()):assert_ok()
  -- lost returns the numbers of the pings that were answered.
  local function lost()
    for attempt = 1, 5 do
      wan:drop_rate({from = b, to = a, p = 50})
      local before = wan:nic(b):counters().tx_packets
      local out = b:run("ping -c 30 -i 0.05 -W 3 " .. wan:nic(a):ip()).stdout
      local sent = wan:nic(b):counters().tx_packets - before
      wan:reset()
      if sent == 30 then -- otherwise the guest sent frames of its own meanwhile
        local got = {}
        for seq in out:gmatch("seq=(%d+)") do got[#got + 1] = seq end
        return table.concat(got, " ")
      end
    end
    t:fail("the guest is never quiet")
  end
  local first, second = lost(), lost()
  t:assert_eq(first, second)
  local _, answered = first:gsub("%d+", "")
  t:assert(answered > 5 and answered < 25, first)
end)

test("latency, duplication and corruption are seen by guests", function(t)
  wan:add_latency(200)
  local out = a:run("ping -c 3 " .. wan:nic(b):ip()):assert_ok().stdout
  local rtt = tonumber(out:match("min/avg/max = ([%d.]+)"))
  t:assert(rtt >= 400 and rtt < 2000, "round trip of " .. rtt .. " ms")
  wan:reset()
  wan:duplicate_rate({from = b, to = a, p = 100})
  t:assert_contains(a:run("ping -c 2 " .. wan:nic(b):ip()).stdout, "DUP!")
  wan:reset()
  wan:drop_rate(100)
  t:assert(misses(a, "b"))
  wan:drop_rate(0)
  t:assert(reaches(a, "b"))
end)

test("disconnect takes the carrier away, reconnect gives it back", function(t)
  local nic = wan:nic(b)
  local function carrier() return b:read_file("/sys/class/net/eth0/carrier") end
  t:assert_eq(carrier(), "1\n")
  nic:disconnect()
  wait_until(function() return carrier() == "0\n" end)
  t:assert(misses(a, nic:ip()))
  nic:reconnect()
  wait_until(function() return carrier() == "1\n" end)
  wait_until(function() return reaches(a, nic:ip()) end)
  local before = nic:counters()
  t:assert(reaches(a, "b"))
  local after = nic:counters()
  t:assert(after.rx_packets > before.rx_packets and after.tx_packets > before.tx_packets)
  t:assert(after.rx_bytes > before.rx_bytes and after.tx_bytes > before.tx_bytes)
  t:assert_eq(after.errors, 0)
end)

test("detach takes link and names away, attach brings them back", function(t)
  local nic = wan:nic(c)
  local ip = nic:ip()
  wan:detach(c)
  t:assert(not a:read_file("/etc/hosts"):find("c.wan", 1, true))
  t:assert(misses(a, ip))
  wait_until(function() return c:read_file("/sys/class/net/eth0/carrier") == "0\n" end)
  wan:attach(c)
  t:assert_contains(a:read_file("/etc/hosts"), ip .. " c.wan c")
  wait_until(function() return reaches(a, "c") end)
end)

test("a second bridge of a test goes with it (1)", function(t)
  local lan = provium:bridge("lan")
  lan:attach({b, c})
  t:assert(reaches(b, "c.lan"))
  t:assert_contains(b:run("ip -o link").stdout, "eth1")
  t:assert_eq(b:nic("eth0"), lan:nic(b), "lan comes before wan")
end)

test("a second bridge of a test goes with it (2)", function(t)
  t:assert(not b:run("ip -o link").stdout:find("eth1", 1, true))
  t:assert(not b:read_file("/etc/hosts"):find("lan", 1, true))
  t:assert(reaches(b, "c"))
end)

test("a paused guest is told when it goes on", function(t)
  c:pause()
  wan:detach(b)
  wan:attach(b)
  c:resume()
  t:assert(reaches(c, "b"))
end)

test("a snapshot keeps its NICs", function(t)
  local s = c:snapshot()
  c:shutdown()
  c:restore(s)
  t:assert(reaches(c, "a"))
  t:assert(reaches(a, "c"))
  c:shutdown()
  wan:detach(c)
  c:boot()
  t:assert(not c:run("ip -o link").stdout:find("eth0", 1, true))
end)

test("addressing can be left to the guests", function(t)
  local raw = provium:bridge("raw", {addressing = "none"})
  raw:attach({a, b})
  local n = raw:nic(a)
  t:assert_eq(n:ip(), nil)
  for i, vm in ipairs({a, b}) do
    local name = vm:run("ip -o link").stdout:match("(eth1)")
    t:assert_eq(name, "eth1")
    t:assert_eq(vm:run("ip -o addr show eth1").stdout, "")
    vm:run("ip link set eth1 up && ip addr add 192.0.2." .. i .. "/24 dev eth1"):assert_ok()
  end
  wait_until(function() return reaches(a, "192.0.2.2") end)
end)

-- pcap returns the sizes of the frames in a capture.
local function pcap(bytes)
  local magic, linktype = string.unpack("<I4", bytes), string.unpack("<I4", bytes, 21)
  assert(magic == 0xa1b2c3d4 and linktype == 1, "no pcap file")
  local sizes, at = {}, 25
  while at <= #bytes do
    local kept = string.unpack("<I4", bytes, at + 8)
    sizes[#sizes + 1] = kept
    at = at + 16 + kept
  end
  assert(at == #bytes + 1, "the file ends within a frame")
  return sizes
end

test("captures are pcap files", function(t)
  provium:vm("ghost", "host")
  refused(t, function() wan:attach("ghost"); wan:nic("ghost"):capture() end,
    "nic:capture: vm `ghost` has no live port on bridge `wan` (not booted?); boot it first")
  wan:detach("ghost")
  local all, mine = wan:capture(), wan:nic(a):capture()
  t:assert_eq(a:open_stream_count(), 2)
  refused(t, function() a:snapshot() end, "live streams", "bridge_capture(wan)", "nic_capture(a on wan)")
  -- b learns a's MAC here, since it cannot ask for it behind the partition
  wait_until(function() return reaches(b, wan:nic(a):ip()) end)
  wan:partition({from = b, to = a})
  b:run("ping -c 3 -s 500 -i 0.1 -W 1 " .. wan:nic(a):ip())
  wan:reset()
  local function pings(cap)
    local n = 0
    for _, size in ipairs(pcap(table.concat(cap:drain("200ms")))) do
      if size == 542 then n = n + 1 end
    end
    return n
  end
  t:assert_eq(pings(all), 3)
  t:assert_eq(pings(mine), 0)
  all:close()
  mine:close()
  t:assert_eq(a:open_stream_count(), 0)
  refused(t, function() all:expect("x") end, "capture closed")
end)
