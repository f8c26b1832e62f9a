-- Routes between bridges, the uplink and forwarded ports: everything that a
-- bridge's gateway does.

local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

local small = {memory = "128M"}
local a = provium:vm("a", "host", small)
local b = provium:vm("b", "host", small)
local left = provium:bridge("left")
local right = provium:bridge("right")
left:attach(a)
right:attach(b)

local function reaches(from, to)
  return from:run("ping -c 1 -W 2 " .. to):ok()
end

-- gateway is the first address of a guest's network.
local function gateway(nic) return (nic:ip():gsub("%d+$", "1")) end

test("bad routes and forwards say what is wrong", function(t)
  refused(t, function() left:route(left) end, "bridge `left`", "itself")
  refused(t, function() left:route({right, left}) end, "itself")
  refused(t, function() left:route({right, 7}) end, "element 2", "bridge", "number")
  refused(t, function() left:route("right") end, "must be a bridge, got string")
  local raw = provium:bridge("raw", {addressing = "none"})
  refused(t, function() left:route(raw) end, "raw", "no addressing")
  refused(t, function() raw:enable_uplink() end, "raw", "no addressing")
  t:assert_eq(#left:routes(), 0)
  refused(t, function() left:forward({port = 80}) end, "`vm` is missing")
  refused(t, function() left:forward({vm = a}) end, "`port` is missing")
  refused(t, function() left:forward({vm = a, port = 0}) end, "1 to 65535", "0")
  refused(t, function() left:forward({vm = b, port = 80}) end, "not attached", "bridge:attach")
  refused(t, function() left:forward({vm = a, port = 80, protocol = "sctp"}) end, "tcp", "udp", "sctp")
  refused(t, function() left:forward({vm = a, port = 80, host = 1}) end, "unknown option", "host")
end)

test("guests of routed bridges reach each other, by both versions of IP", function(t)
  provium:boot()
  a:boot()
  b:boot()
  t:assert(not reaches(a, right:nic(b):ip()))
  t:assert(not reaches(a, gateway(left:nic(a))), "a gateway without a job")
  left:route(right)
  left:route({right})
  t:assert_eq(table.concat(left:routes(), " "), "right")
  t:assert_eq(table.concat(right:routes(), " "), "left")
  t:assert(reaches(a, "b.right"))
  t:assert(reaches(b, "a"))
  t:assert(reaches(a, gateway(left:nic(a))))
  a:run("ping6 -c 1 -W 2 b.right"):assert_ok()
  -- One station lies between: the time to live shows it.
  t:assert_contains(a:run("ping -c 1 -W 2 b"):assert_ok().stdout, "ttl=63")
end)

test("the way is visible to traceroute", function(t)
  local out = a:run("traceroute -n -q 1 -w 2 " .. right:nic(b):ip()):assert_ok().stdout
  t:assert(out:find("\n 1  " .. gateway(left:nic(a)), 1, true), out)
  t:assert(out:find("\n 2  " .. right:nic(b):ip(), 1, true), out)
  local short = a:run("ping -c 1 -t 1 -W 2 " .. right:nic(b):ip())
  t:assert(not short:ok(), short.stdout)
end)
