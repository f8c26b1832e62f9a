-- An office and a data centre with a route between them, and a service in a guest
-- that a program of the host speaks to.
local desk = provium:vm("desk", "host", {memory = "128M"})
local web = provium:vm("web", "host", {memory = "128M"})
local office = provium:bridge("office")
local dc = provium:bridge("dc")
office:attach(desk)
dc:attach(web)
office:route(dc)
provium:boot()

test("the desk reaches the web server by way of two gateways", function(t)
  dc:add_latency(50) -- of one part of the way
  local out = desk:run("ping -c 1 -W 5 web.dc"):assert_ok().stdout
  t:assert_contains(out, "ttl=63")
  dc:reset()
end)

test("the host reaches a port of the guest", function(t)
  web:run("echo hello >/tmp/index.html && httpd -p 80 -h /tmp"):assert_ok()
  local address = dc:forward({vm = web, port = 80}):gsub(":", "/")
  local client = io.popen(("bash -c 'exec 3<>/dev/tcp/%s && printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'"):format(address))
  t:assert_contains(client:read("a"), "hello")
  client:close()
end)
