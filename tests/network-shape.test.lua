-- Bandwidth and directions, as guests see them. Only the least duration is checked, which
-- a busy host does not change. Unit tests check the exact model, with a clock of their own.

local net = provium:bridge("net")
local a, b = provium:vm("a", "host"):boot(), provium:vm("b", "host"):boot()
net:attach({a, b})

-- rtt returns the round-trip time of one ping in milliseconds.
local function rtt(from, to)
  local out = from:run("ping -c 1 -w 30 " .. to):assert_ok().stdout
  return tonumber(out:match("time=([%d.]+) ms"))
end

-- Returns the seconds that sending so many bytes from one guest to the other takes, by the
-- clock of the receiver.
local function transfer(from, to, bytes)
  local now = "cut -d' ' -f1 /proc/uptime"
  local sink = to:run_async(("nc -l -p 7000 | { head -c 1 > /dev/null; s=$(%s); n=$(wc -c); echo $s $(%s) $((n + 1)); }"):format(now, now))
  wait_until(function() return to:run("netstat -ltn | grep -q :7000"):ok() end, {timeout = 60})
  from:run(("head -c %d /dev/zero | nc -w 60 %s 7000"):format(bytes, to:name())):assert_ok()
  local begun, ended, got = sink:wait("120s").stdout:match("([%d.]+) ([%d.]+) (%d+)")
  assert(tonumber(got) > bytes / 2, got .. " bytes arrived") -- head may take more than its byte
  return tonumber(ended) - tonumber(begun)
end

test("a limit holds for its direction alone", function(t)
  net:bandwidth_limit({from = a, to = b, bps = 2e6})
  t:assert_eq(net:bandwidth_bps(a, b), 2e6)
  t:assert_eq(net:bandwidth_bps(b, a), 0)
  -- 500 kB at 2 Mbit/s take two seconds, less what fits in the queue.
  local slow = transfer(a, b, 500000)
  t:assert(slow > 1, "500 kB took " .. slow .. " s")
  net:bandwidth_limit({from = a, to = b, bps = 0})
  net:bandwidth_limit({from = b, to = a, bps = 2e6})
  local other = transfer(b, a, 500000)
  t:assert(other > 1, "500 kB took " .. other .. " s the other way")
  net:reset()
end)

test("latency of the two directions adds up", function(t)
  rtt(a, "b") -- the addresses are known from here on
  net:add_latency({from = a, to = b, ms = 300})
  t:assert(rtt(a, "b") >= 300)
  net:add_latency({from = b, to = a, ms = 200})
  t:assert(rtt(a, "b") >= 500)
  t:assert(rtt(b, "a") >= 500)
  net:add_latency({from = a, to = b, ms = 0})
  t:assert(rtt(b, "a") >= 200)
  net:reset()
end)

test("loss of one direction lets the other one through", function(t)
  net:drop_rate({from = a, to = b, p = 100})
  local before = a:nic("net"):counters().rx_packets
  t:assert(not a:run("ping -c 2 -w 3 b"):ok())
  t:assert_eq(a:nic("net"):counters().rx_packets, before)
  b:run("ping -c 2 -w 3 a") -- the requests arrive, the answers do not
  t:assert(a:nic("net"):counters().rx_packets > before)
  net:reset()
  t:assert(a:run("ping -c 1 -w 30 b"):ok())
end)
