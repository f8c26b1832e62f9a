-- The uplink, over which guests connect outwards with the rights of the user who runs the
-- tests, and forwarded ports, over which programs of the host connect to guests.

local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, needle in ipairs({...}) do t:assert_contains(err, needle) end
end

local small = {memory = "128M"}
local a = provium:vm("a", "host", small)
local b = provium:vm("b", "host", small)
local lan = provium:bridge("lan")
lan:attach({a, b})

local function shell(line)
  local p = io.popen(line)
  local out = p:read("a")
  return out, p:close()
end

-- talk sends a text to an address of the host, "host:port", and returns what comes back
-- within a while. wait is the command that reads it: "cat" reads all.
local function talk(address, text, wait)
  return (shell(("timeout 30 bash -c 'exec 3<>/dev/tcp/%s; printf \"%s\" >&3; %s <&3' 2>/dev/null"):format((address:gsub(":", "/")), text, wait)))
end

-- fetch is an HTTP client of the host. It returns the body of the answer.
local function fetch(address, path)
  return talk(address, "GET " .. path .. " HTTP/1.0\\r\\n\\r\\n", "cat"):match("\r\n\r\n(.*)")
end

-- web starts an HTTP server on the host's loopback. What it serves shows whether the port
-- is really its own.
local function web()
  local dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir " .. dir))
  local token = dir:gsub("%W", "")
  local page = assert(io.open(dir .. "/token", "w"))
  page:write(token)
  page:close()
  for _ = 1, 20 do
    local port = math.random(20000, 60000)
    local pid = shell(("timeout 600 busybox httpd -f -p 127.0.0.1:%d -h %s >/dev/null 2>&1 & echo $!"):format(port, dir)):match("%d+")
    local function up() return fetch("127.0.0.1:" .. port, "/token") == token end
    if pcall(wait_until, up, {timeout = "5s"}) then
      return {port = port, token = token, stop = function() os.execute(("kill %s; rm -r %s"):format(pid, dir)) end}
    end
    os.execute("kill " .. pid .. " 2>/dev/null")
  end
  error("no port is free")
end

-- get is an HTTP client in a guest.
local function get(vm, host, port)
  local r = vm:run(("printf 'GET /token HTTP/1.0\\r\\n\\r\\n' | nc -w 30 %s %d"):format(host, port))
  return r.stdout:match("\r\n\r\n(.*)"), r.stderr
end

local gateway = lan:nic(a):ip():gsub("%d+$", "1")

test("bad forwards and bridges without addresses say what is wrong", function(t)
  local raw = provium:bridge("raw", {addressing = "none"})
  raw:attach(a)
  refused(t, function() raw:enable_uplink() end, "raw", "no addressing")
  refused(t, function() raw:forward({vm = a, port = 80}) end, "raw", "no addressing")
  refused(t, function() lan:forward() end, "bridge:forward", "{vm=, port=}")
  refused(t, function() lan:forward({port = 80}) end, "`vm` is missing")
  refused(t, function() lan:forward({vm = a}) end, "`port` is missing")
  refused(t, function() lan:forward({vm = a, port = 0}) end, "1 to 65535", "0")
  refused(t, function() lan:forward({vm = "z", port = 80}) end, "not attached", "bridge:attach")
  refused(t, function() lan:forward({vm = a, port = 80, protocol = "sctp"}) end, "tcp", "udp", "sctp")
  refused(t, function() lan:forward({vm = a, port = 80, host = 1}) end, "unknown option", "host")
  lan:disable_uplink() -- it is enabled
end)

test("without an uplink there is no way out", function(t)
  a:boot()
  b:boot()
  t:assert_contains(a:run("ping -c 1 -W 1 192.0.2.1").stderr, "unreachable")
  t:assert(not a:run("ping -c 1 -W 1 " .. gateway):ok(), "a gateway without a job")
end)

test("a guest reaches an HTTP server on the host's loopback", function(t)
  local server <close> = setmetatable(web(), {__close = function(s) s.stop() end})
  lan:enable_uplink()
  lan:enable_uplink()
  local host = "host.provium.internal"
  t:assert_eq(get(a, host, server.port), server.token)
  t:assert_eq(get(b, gateway, server.port), server.token)
  t:assert_contains(a:run("ip route").stdout, "default via " .. gateway)
  t:assert_contains(a:run("ping -c 1 -W 5 host.provium.internal"):assert_ok().stdout, gateway)
  lan:isolate(a)
  t:assert_eq(get(a, host, server.port), server.token)
  t:assert(not a:run("ping -c 1 -W 1 b"):ok())
  lan:unisolate(a)
  -- Nothing listens on port 1, which the guest learns at once.
  t:assert_contains(a:run("nc -w 20 host.provium.internal 1").stderr, "refused")
end)

test("names are asked for at the gateway, which always answers", function(t)
  t:assert_contains(a:read_file("/etc/resolv.conf"), "nameserver " .. gateway)
  local r = a:run("nslookup -timeout=60 nobody.invalid")
  t:assert_contains(r.stdout .. r.stderr, gateway)
  t:assert(not (r.stdout .. r.stderr):find("timed out", 1, true), r.stdout .. r.stderr)
end)

test("what is no address of one station is refused", function(t)
  for _, to in ipairs({"169.254.169.254", "255.255.255.255"}) do
    t:assert(not a:run("nc -w 2 " .. to .. " 80"):ok())
  end
end)

test("disable_uplink ends connections and takes the way out", function(t)
  local server <close> = setmetatable(web(), {__close = function(s) s.stop() end})
  -- A request that is never finished keeps the connection open.
  local p = a:run_async(("(printf 'GET /token'; sleep 600) | nc %s %d"):format(gateway, server.port))
  local function connected() return a:run("netstat -tn").stdout:find(gateway .. ":" .. server.port .. " +ESTABLISHED") end
  wait_until(connected, {timeout = "30s"})
  lan:disable_uplink()
  wait_until(function() return not connected() end, {timeout = "30s"})
  p:kill()
  lan:disable_uplink()
  t:assert(not a:read_file("/etc/resolv.conf"):find("nameserver " .. gateway, 1, true))
  t:assert(not a:read_file("/etc/hosts"):find("host.provium.internal", 1, true))
  t:assert(not a:run("ip route").stdout:find("default", 1, true))
  t:assert_eq(get(a, gateway, server.port), nil)
end)

test("a program of the host reaches a guest by a forwarded port", function(t)
  a:run("mkdir -p /www && echo hello from a >/www/token && httpd -p 80 -h /www"):assert_ok()
  local address = lan:forward({vm = a, port = 80})
  t:assert(address:match("^127%.0%.0%.1:%d+$"), address)
  t:assert_eq(lan:forward({vm = "a", port = 80, protocol = "tcp"}), address)
  t:assert_eq(fetch(address, "/token"), "hello from a\n")
  -- Another guest does so from there.
  lan:enable_uplink()
  local port = address:match("%d+$")
  t:assert_eq(get(b, "host.provium.internal", port), "hello from a\n")
  lan:disable_uplink()
  t:assert_eq(fetch(address, "/token"), "hello from a\n", "forwards stay")
end)

test("a forward of a bridge ends with it", function(t)
  local own = provium:bridge("own")
  own:attach(b)
  b:run_async("nc -ll -p 7 -e cat")
  local tcp = own:forward({vm = b, port = 7})
  wait_until(function() return talk(tcp, "hi", "head -c 2") == "hi" end, {timeout = "60s"})

  -- The same port of UDP: one datagram there and one back.
  local udp = own:forward({vm = b, port = 7, protocol = "udp"})
  t:assert_neq(tcp, udp)
  local fd = b:syscall(41, 2, 2, 0).ret                                     -- socket
  local any = string.pack("<I2", 2) .. string.pack(">I2I4I8", 7, 0, 0)
  t:assert_eq(b:syscall(49, {args = {fd, 0, 16}, bufs = {any}, ptrs = {1}}).ret, 0) -- bind
  local got = b:syscall_async(45, {args = {fd, 0, 5}, bufs = {("x"):rep(5), any, string.pack("<I4", 16)}, ptrs = {1, 4, 5}}) -- recvfrom
  local client = io.popen(("timeout 60 bash -c 'exec 3<>/dev/udp/%s; printf hello >&3; head -c 5 <&3'"):format((udp:gsub(":", "/"))))
  got = got:await()
  t:assert_eq(got.out_bufs[1], "hello")
  b:syscall(44, {args = {fd, 0, 5, 0, 0, 16}, bufs = {"there", got.out_bufs[2]}, ptrs = {1, 4}}) -- sendto
  t:assert_eq(client:read("a"), "there")
  client:close()
  b:syscall(3, fd)
  own:close()
  t:assert_eq(talk(tcp, "hi", "head -c 2"), "")
  refused(t, function() own:forward({vm = b, port = 7}) end, "own")
end)
