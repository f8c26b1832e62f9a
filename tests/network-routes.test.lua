-- Routes between bridges: what their gateways forward, and what they refuse.

local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

local small = {memory = "128M"}
local a = provium:vm("a", "host", small)
local b = provium:vm("b", "host", small)
local c = provium:vm("c", "host", small)
local left = provium:bridge("left")
local right = provium:bridge("right")
left:attach(a)
right:attach(b)

-- reaches reports whether an answer comes. An expected one has much time.
local function reaches(from, to, seconds)
  return from:run(("ping -c 1 -W %d %s"):format(seconds or 2, to)):ok()
end
-- It may be the answer to a later question: a guest that has just asked in vain for its
-- gateway drops the first packet.
local function arrives(from, to)
  return wait_until(function() return reaches(from, to, 5) end, {timeout = "60s", desc = to .. " answers"})
end

-- gateway returns the first address of a guest's network.
local function gateway(nic) return (nic:ip():gsub("%d+$", "1")) end

test("bad routes say what is wrong", function(t)
  refused(t, function() left:route(left) end, "bridge `left`", "itself")
  refused(t, function() left:route({right, left}) end, "itself")
  refused(t, function() left:route({right, 7}) end, "bridge:route", "element 2", "bridge", "number")
  local raw = provium:bridge("raw", {addressing = "none"})
  refused(t, function() left:route(raw) end, "raw", "no addressing")
  t:assert_eq(#left:routes(), 0)
end)

test("guests of routed bridges reach each other, by both versions of IP", function(t)
  a:boot()
  b:boot()
  t:assert(not reaches(a, right:nic(b):ip()))
  t:assert(not reaches(a, gateway(left:nic(a))), "a gateway without a job")
  left:route(right)
  left:route({right})
  t:assert_eq(table.concat(left:routes(), " "), "right")
  t:assert_eq(table.concat(right:routes(), " "), "left")
  t:assert(arrives(a, "b.right"))
  t:assert(arrives(b, "a"))
  t:assert(arrives(a, gateway(left:nic(a))))
  t:assert(arrives(a, gateway(right:nic(b))))
  a:run("ping6 -c 1 -W 30 b.right"):assert_ok()
  -- There is one hop between them, as the time to live shows.
  t:assert_contains(a:run("ping -c 1 -W 2 b"):assert_ok().stdout, "ttl=63")
end)

test("the way is visible to traceroute", function(t)
  local target = right:nic(b):ip()
  local out = a:run("traceroute -n -q 1 -w 5 " .. target):assert_ok().stdout
  t:assert(out:find("\n 1  " .. gateway(left:nic(a)), 1, true), out)
  t:assert(out:find("\n 2  " .. target, 1, true), out)
  t:assert(not a:run("ping -c 1 -t 1 -W 2 " .. target):ok())
end)

test("addresses where nobody is are reported as unreachable", function(t)
  local out = a:run("traceroute -n -q 1 -w 10 -m 3 " .. right:nic(b):ip():gsub("%d+$", "77")).stdout
  t:assert_contains(out, gateway(right:nic(b)) .. "  ")
  t:assert_contains(out, "!H")
  local refused = a:run("nc -w 10 " .. right:nic(b):ip() .. " 9")
  t:assert_contains(refused.stderr, "refused")
end)

test("who comes later gets routes and names", function(t)
  right:attach(c)
  c:boot()
  t:assert(arrives(c, "a.left"))
  t:assert(arrives(a, "c"))
  right:detach(c)
  t:assert(not a:read_file("/etc/hosts"):find("c.right", 1, true))
  t:assert(not c:run("ip route").stdout:find("via", 1, true))
  left:attach(c)
  t:assert(arrives(c, "b.right"))
  t:assert_contains(b:read_file("/etc/hosts"), left:nic(c):ip() .. " c.left c")
  left:detach(c)
end)

test("the rules of each bridge act on its part of the way", function(t)
  right:drop_rate(100)
  t:assert(not reaches(a, right:nic(b):ip()))
  t:assert(arrives(a, gateway(left:nic(a))), "the left part is whole")
  right:reset()
  t:assert(arrives(a, "b"))
  left:add_latency(100)
  right:add_latency(200)
  local out = a:run("ping -c 2 -W 10 b"):assert_ok().stdout
  t:assert(tonumber(out:match("min/avg/max = ([%d.]+)")) >= 600, out)
  left:reset()
  right:reset()
  t:assert_eq(table.concat(left:routes(), " "), "right", "reset keeps routes")
end)

test("an isolated guest reaches its gateway and nobody by way of it", function(t)
  left:isolate(a)
  t:assert(arrives(a, gateway(left:nic(a))))
  t:assert(not reaches(a, right:nic(b):ip()))
  t:assert(not reaches(b, left:nic(a):ip()))
  left:unisolate(a)
  t:assert(arrives(b, "a"))
end)

test("routes in a circle harm nobody, and a bridge takes its routes with it", function(t)
  local top = provium:bridge("top")
  top:route({left, right})
  t:assert_eq(table.concat(top:routes(), " "), "left right")
  top:attach(c)
  t:assert(arrives(c, "a"))
  t:assert(arrives(c, "b"))
  local before = right:nic(b):counters().rx_packets
  t:assert(not reaches(a, top:nic(c):ip():gsub("%d+$", "77")))
  t:assert(right:nic(b):counters().rx_packets - before < 5, "nothing runs in the circle")
  top:close()
  t:assert_eq(table.concat(left:routes(), " "), "right")
  t:assert(not a:read_file("/etc/hosts"):find("top", 1, true))
  t:assert(arrives(a, "b"))
end)

test("two bridges that are routed to a third are not joined by it", function(t)
  local far = provium:bridge("far")
  far:attach(c)
  far:route(right)
  t:assert(arrives(c, "b"))
  t:assert(not reaches(c, left:nic(a):ip()))
end)

-- reset has them after a reset.
test("network and routes are there again in a restored guest", function(t)
  local s = a:snapshot()
  a:shutdown()
  a:restore(s)
  t:assert(arrives(a, "b.right"))
end)
