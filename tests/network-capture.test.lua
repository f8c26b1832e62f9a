-- Captures: filters, packets as tables, and files that tcpdump reads.

local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

local small = {memory = "128M"}
local a = provium:vm("a", "host", small)
local b = provium:vm("b", "host", small)
local wan = provium:bridge("wan", {seed = 7})
wan:attach({a, b})
local ip = {a = wan:nic(a):ip(), b = wan:nic(b):ip()}

test("a bad filter is refused with its place", function(t)
  refused(t, function() wan:capture({filter = "udp prot 53"}) end, "bridge:capture", "`udp prot 53`", "column 5", "`prot`")
  refused(t, function() wan:capture({filter = 53}) end, "filter", "string")
  refused(t, function() wan:capture({filtre = "udp"}) end, "unknown option `filtre`", "nanoseconds, filter")
  refused(t, function() wan:nic(a):capture({filter = "host nowhere"}) end, "nic:capture", "column 6", "`nowhere`", "names are not resolved")
  refused(t, function() wan:nic(a):capture({filter = "udp"}) end, "not booted?")
  t:assert_eq(a:open_stream_count(), 0)
end)

test("packets of a silent bridge", function(t)
  local cap = wan:capture()
  t:assert_eq(#cap:packets(0), 0)
  t:assert_eq(#cap:drain(0), 0, "the header went with it")
  refused(t, function() cap:packets("soon") end, "packets", "soon")
  cap:close()
  t:assert_eq(#cap:packets(), 0, "a closed capture has none")
end)

test("packets are tables, chosen by filters", function(t)
  parallel({function() a:boot() end, function() b:boot() end})
  local all = wan:capture({nanoseconds = true})
  local dns = wan:capture({filter = "udp port 53 and dst host " .. ip.b})
  local pings = wan:nic(b):capture({filter = "icmp[icmptype] = icmp-echo"})
  a:run("ping -c 2 -i 0.1 -W 2 -s 100 b"):assert_ok()
  a:run("nslookup -timeout=1 provium.example " .. ip.b) -- there is no answer
  b:run("nc -l -p 8080 < /dev/null & sleep 0.2; true"):assert_ok()
  wait_until(function() return a:run("echo hello | nc -w 2 " .. ip.b .. " 8080"):ok() end)

  local got = pings:packets("200ms")
  t:assert_eq(#got, 2)
  for _, p in ipairs(got) do
    t:assert_eq(p.proto, "icmp")
    t:assert_eq(p.type, 8)
    t:assert_eq(p.src .. " " .. p.dst, ip.a .. " " .. ip.b)
    t:assert_eq(p.eth_src .. " " .. p.eth_dst, wan:nic(a):mac() .. " " .. wan:nic(b):mac())
    t:assert_eq(p.eth_type, 0x800)
    t:assert_eq(p.ttl, 64)
    t:assert_eq(p.length, 142)
    t:assert_eq(#p.raw, 142)
    t:assert_eq(p.src_port, nil)
    t:assert(math.abs(p.time - p.time_ns / 1e9) < 1e-6)
  end
  t:assert(got[1].time_ns < got[2].time_ns)

  local asked = dns:packets("200ms")
  t:assert(#asked >= 1)
  t:assert_eq(asked[1].proto, "udp")
  t:assert_eq(asked[1].dst_port, 53)
  t:assert_contains(asked[1].payload, "provium\7example")

  local syn, hello, arps = 0, 0, 0
  for _, p in ipairs(all:packets("200ms")) do
    if p.proto == "tcp" and p.flags.syn and not p.flags.ack then
      syn = syn + 1
      t:assert_eq(p.dst_port, 8080)
      t:assert_eq(p.payload, "")
    elseif p.proto == "tcp" and p.payload == "hello\n" then
      hello = hello + 1
      t:assert(p.flags.ack and p.flags.psh and not p.flags.syn)
      t:assert_contains(p.text, " > " .. ip.b .. ":8080 tcp [psh ack] 6 bytes")
    elseif p.proto == "arp" then
      arps = arps + 1
      t:assert(p.operation == 1 or p.operation == 2)
    end
  end
  t:assert(syn >= 1 and hello >= 1 and arps >= 2, syn .. " " .. hello .. " " .. arps)
  t:assert_eq(#all:packets(0), 0, "what one call has given no other gives again")
  all:close() dns:close() pings:close()
end)

test("packets shares the bytes with the other calls", function(t)
  local cap = wan:capture({filter = "icmp"})
  local function ping(size) a:run("ping -c 1 -W 2 -s " .. size .. " b"):assert_ok() end
  ping(100)
  t:assert_eq(#cap:packets("200ms"), 2)
  ping(200)
  t:assert(#table.concat(cap:drain("200ms")) == 2 * (16 + 242), "two records without a header")
  a:run("ping -c 1 -W 2 -s 56 -p 7a b")
  cap:read_until("zzzz")
  refused(t, function() cap:packets() end, "inside of a frame", "next")
  cap:next()
  ping(300)
  t:assert_eq(cap:packets("200ms")[1].length, 342)
  refused(t, function() a:console():read():packets() end, "no capture")
  cap:close()
end)

test("a capture is read by tcpdump", function(t)
  for _, how in ipairs({{}, {nanoseconds = true}}) do
    local cap = wan:capture(how)
    a:run("ping -c 3 -i 0.1 -W 2 -s 77 " .. ip.b):assert_ok()
    local name = os.tmpname()
    local file <close> = setmetatable({}, {__close = function() os.remove(name) end})
    local out = assert(io.open(name, "wb"))
    out:write(table.concat(cap:drain("200ms")))
    out:close()
    cap:close()
    local reader = assert(io.popen("tcpdump -n -t -r " .. name .. " icmp 2>&1"))
    local text = reader:read("a")
    t:assert(reader:close(), text)
    for seq = 1, 2 do
      t:assert_contains(text, ("IP %s > %s: ICMP echo request, id "):format(ip.a, ip.b))
      t:assert_contains(text, ("seq %d, length 85"):format(seq))
    end
    t:assert_contains(text, ("IP %s > %s: ICMP echo reply, id "):format(ip.b, ip.a))
  end
end)

test("loss in bursts is the same twice for one seed, and not for another rule", function(t)
  b:run("arp -s " .. ip.a .. " " .. wan:nic(a):mac()):assert_ok()
  -- arrive sends 40 numbered packets and returns those that arrive.
  local function arrive(rule)
    for _ = 1, 5 do
      wan:reset()
      local sent, got = wan:capture({filter = "icmp and src host " .. ip.b}), wan:nic(a):capture({filter = "icmp and src host " .. ip.b})
      local before = wan:nic(b):counters().tx_packets
      wan:drop_rate(rule)
      b:run("ping -c 40 -i 0.02 -W 2 " .. ip.a)
      local frames = wan:nic(b):counters().tx_packets - before
      wan:reset()
      local numbers = {}
      for _, p in ipairs(got:packets("100ms")) do numbers[#numbers + 1] = p.payload:byte(4) end
      local count = #sent:packets("100ms")
      sent:close() got:close()
      if frames == 40 and count == 40 then return table.concat(numbers, " ") end
    end
    t:fail("the guest is never quiet")
  end
  local bursts = {from = b, to = a, p = 50, burst = 5}
  local first = arrive(bursts)
  t:assert_eq(arrive(bursts), first)
  t:assert(arrive({from = b, to = a, p = 50}) ~= first)
end)
