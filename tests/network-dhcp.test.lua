-- A bridge without addressing is silent, so that a test can run its own DHCP. This file
-- is the server, by system calls of one guest; the client is busybox's.

local small = {memory = "128M"}
local server = provium:vm("server", "host", small)
local client = provium:vm("client", "host", small)
local raw = provium:bridge("raw", {addressing = "none"})
raw:attach({server, client})
provium:boot()

local AF_PACKET, ETH_P_IP = 17, 0x0800
local SOCKET, SENDTO, RECVFROM, CLOSE = 41, 44, 45, 3
local serverIP, clientIP = "\xc0\x00\x02\x01", "\xc0\x00\x02\x4d" -- 192.0.2.1 and .77

-- checksum returns the checksum of IP.
local function checksum(s)
  local sum = 0
  for i = 1, #s, 2 do sum = sum + (string.unpack(">I2", s .. "\0", i)) end
  while sum > 0xffff do sum = (sum >> 16) + (sum & 0xffff) end
  return ~sum & 0xffff
end

-- option returns an option of a DHCP message.
local function option(message, wanted)
  local at = 241
  while at < #message and message:byte(at) ~= 255 do
    local code, value = string.unpack(">Bs1", message, at)
    if code == wanted then return value end
    at = at + 2 + #value
  end
end

-- answer returns the frame with a message of a kind that answers a client's message.
local function answer(message, kind, mac)
  local options = "\x63\x82\x53\x63" .. "\x35\x01" .. string.char(kind) .. "\x36\x04" .. serverIP
    .. "\x33\x04\0\0\x0e\x10" .. "\x01\x04\xff\xff\xff\0" .. "\x03\x04" .. serverIP .. "\xff"
  local bootp = "\2\1\6\0" .. message:sub(5, 8) .. ("\0"):rep(8) .. clientIP .. serverIP .. "\0\0\0\0"
    .. message:sub(29, 44) .. ("\0"):rep(192) .. options
  local udp = string.pack(">I2I2I2I2", 67, 68, 8 + #bootp, 0) .. bootp
  local head = string.pack(">BBI2I2I2BB", 0x45, 0, 20 + #udp, 0, 0, 64, 17)
  local ends = serverIP .. "\xff\xff\xff\xff"
  local ip = head .. string.pack(">I2", checksum(head .. "\0\0" .. ends)) .. ends .. udp
  return ("\xff"):rep(6) .. mac .. string.pack(">I2", ETH_P_IP) .. ip
end

test("a client gets an address from a server written in the test", {timeout = "2m"}, function(t)
  t:assert_eq(server:run("ip -o addr show eth0").stdout, "")
  for _, vm in ipairs({server, client}) do vm:run("ip link set eth0 up"):assert_ok() end
  local index = tonumber(server:read_file("/sys/class/net/eth0/ifindex"))
  local mac = raw:nic(server):mac():gsub("(%x%x):?", function(x) return string.char(tonumber(x, 16)) end)
  local fd = server:syscall(SOCKET, AF_PACKET, 3, ETH_P_IP >> 8 | (ETH_P_IP & 255) << 8).ret
  t:assert(fd >= 0)
  local to = string.pack("<I2", AF_PACKET) .. string.pack(">I2", ETH_P_IP) .. string.pack("<I4I2BB", index, 1, 0, 6) .. ("\xff"):rep(6) .. "\0\0"

  client:write_file("/lease.sh", '#!/bin/sh\n[ "$1" = bound ] && ip addr add $ip/$mask dev $interface && echo $router >/router\nexit 0\n')
  client:run("chmod +x /lease.sh"):assert_ok()
  local udhcpc = client:run_async("udhcpc -i eth0 -s /lease.sh -n -q -t 20 -T 3 -f")
  -- DISCOVER is answered by OFFER, REQUEST by ACK.
  local seen = {}
  repeat
    local got = server:syscall_async(RECVFROM, {args = {fd, 0, 2000}, bufs = {("\0"):rep(2000)}, ptrs = {1}}):await("60s")
    local frame = got.out_bufs[1]:sub(1, got.ret)
    local message = frame:sub(43)
    local kind = #frame > 282 and frame:byte(24) == 17 and string.unpack(">I2", frame, 37) == 67 and option(message, 53):byte()
    if kind then
      seen[#seen + 1] = kind
      local reply = answer(message, kind == 1 and 2 or 5, mac)
      t:assert_eq(server:syscall(SENDTO, {args = {fd, 0, #reply, 0, 0, #to}, bufs = {reply, to}, ptrs = {1, 4}}).ret, #reply)
    end
  until kind == 3
  local r = udhcpc:wait("60s")
  t:assert_eq(r.exit_code, 0, r.stderr)
  t:assert_eq(seen[1], 1)
  t:assert_contains(client:run("ip -o addr show eth0").stdout, "192.0.2.77/24")
  t:assert_eq(client:read_file("/router"), "192.0.2.1\n")
  server:syscall(CLOSE, fd)
end)

test("the guests then speak to each other", function(t)
  server:run("ip addr add 192.0.2.1/24 dev eth0"):assert_ok()
  client:run("ping -c 1 -W 5 192.0.2.1"):assert_ok()
end)

test("nobody speaks on the bridge who is not one of them", function(t)
  local cap = raw:capture()
  client:run("ping -c 2 -W 5 192.0.2.1"):assert_ok()
  local bytes, at = table.concat(cap:drain("500ms")), 25
  cap:close()
  local known = {[raw:nic(server):mac()] = true, [raw:nic(client):mac()] = true}
  local frames = 0
  while at < #bytes do
    local size = string.unpack("<I4", bytes, at + 8)
    local source = bytes:sub(at + 16 + 6, at + 16 + 11):gsub(".", function(c) return ("%02x:"):format(c:byte()) end):sub(1, -2)
    t:assert(known[source], source)
    at, frames = at + 16 + size, frames + 1
  end
  t:assert(frames >= 4, frames)
end)

test("the test itself speaks on the bridge", {timeout = "2m"}, function(t)
  local port = raw:port()
  t:assert_eq(tostring(port), "port(port0 on raw)")
  local mac = port:mac():gsub("(%x%x):?", function(x) return string.char(tonumber(x, 16)) end)
  local function ask() -- who has 192.0.2.77? tell 192.0.2.9
    port:send(("\xff"):rep(6) .. mac .. "\8\6" .. "\0\1\8\0\6\4\0\1" .. mac .. "\xc0\0\2\9" .. ("\0"):rep(6) .. clientIP)
  end
  -- await returns the next ARP frame of that operation about an address, and whether the client answered before it.
  local function await(operation, from, to)
    local answered = false
    while true do
      local frame = port:recv("30s")
      if not frame then t:fail("no frame came") end
      if frame:sub(13, 14) == "\8\6" then
        answered = answered or frame:byte(22) == 2
        if frame:byte(22) == operation and frame:sub(29, 32) == from and frame:sub(39, 42) == to then return answered, frame end
      end
    end
  end
  ask()
  local _, reply = await(2, clientIP, "\xc0\0\2\9")
  t:assert_eq(reply:sub(1, 6), mac)
  raw:partition(port, client)
  ask()
  raw:restore_all()
  client:run("arping -q -c 1 -w 5 -I eth0 192.0.2.10")
  t:assert(not await(1, clientIP, "\xc0\0\2\10"), "the question was stopped")
  port:close()
  t:assert_contains(t:assert_raises(function() port:recv(0) end), "port closed")
end)
