-- Sockets, by system calls alone: raw frames on a veth pair, and dumps of rtnetlink,
-- which the test decodes itself.

local vm = provium:vm("net", "modules"):boot()

local SOCKET, BIND, SENDTO, RECVFROM, CLOSE, POLL = 41, 49, 44, 45, 3, 7
local AF_PACKET, AF_NETLINK, SOCK_RAW = 17, 16, 3

local function attribute(kind, value)
  return string.pack("<I2I2", 4 + #value, kind) .. value .. ("\0"):rep(-#value & 3)
end

-- RTM_NEWLINK with REQUEST, ACK, EXCL and CREATE: IFLA_IFNAME is 3, IFLA_LINKINFO 18
-- with INFO_KIND 1 and INFO_DATA 2, in which VETH_INFO_PEER is 1.
local function add_veth(name, peer)
  local info = ("\0"):rep(16) -- struct ifinfomsg
  local link = attribute(18, attribute(1, "veth") .. attribute(2, attribute(1, info .. attribute(3, peer .. "\0"))))
  local body = info .. attribute(3, name .. "\0") .. link
  local fd = vm:syscall(SOCKET, AF_NETLINK, SOCK_RAW, 0).ret
  local request = string.pack("<I4I2I2I4I4", 16 + #body, 16, 0x605, 1, 0) .. body
  assert(vm:syscall(SENDTO, {args = {fd, 0, #request, 0, 0, 0}, bufs = {request}, ptrs = {1}}).ret == #request)
  local r = vm:syscall(RECVFROM, {args = {fd, 0, 4096, 0, 0, 0}, bufs = {("\0"):rep(4096)}, ptrs = {1}})
  vm:syscall(CLOSE, fd)
  return -string.unpack("<i4", r.out_bufs[1], 17) -- NLMSG_ERROR: 0 is the acknowledgement
end

local errno = add_veth("va", "vb")
assert(errno == 0, "RTM_NEWLINK: errno " .. errno)
vm:run("ip link set va up && ip link set vb up && ip addr add 10.99.0.1/24 dev va"):assert_ok()

local function index(name) return tonumber(vm:read_file("/sys/class/net/" .. name .. "/ifindex")) end

-- sockaddr_ll: family, protocol (network order), interface
local function packet_socket(name)
  local fd = vm:syscall(SOCKET, AF_PACKET, SOCK_RAW, 0).ret
  local address = string.pack("<I2>I2<i4I2I1I1", AF_PACKET, 0x88b5, index(name), 0, 0, 0) .. ("\0"):rep(8)
  local r = vm:syscall(BIND, {args = {fd, 0, #address}, bufs = {address}, ptrs = {1}})
  assert(r.ret == 0, "bind: errno " .. r.errno)
  return fd
end

test("a link that is there already is EEXIST", function(t)
  t:assert_eq(add_veth("va", "vc"), 17)
end)

test("raw frames cross a veth pair", function(t)
  local a, b = packet_socket("va"), packet_socket("vb")
  for _, size in ipairs{60, 1000, 1514} do
    local frame = ("\xff"):rep(6) .. ("\2"):rep(6) .. string.pack(">I2", 0x88b5) .. ("x"):rep(size - 14)
    t:assert_eq(vm:syscall(SENDTO, {args = {a, 0, #frame, 0, 0, 0}, bufs = {frame}, ptrs = {1}}).ret, size)
    -- struct pollfd {fd, events, revents}: the frame is there when POLLIN is
    local p = vm:syscall(POLL, {args = {0, 1, 10000}, bufs = {string.pack("<i4i2i2", b, 1, 0)}, ptrs = {0}})
    t:assert_eq(p.ret, 1)
    local r = vm:syscall(RECVFROM, {args = {b, 0, 2000, 0, 0, 0}, bufs = {("\0"):rep(2000)}, ptrs = {1}})
    t:assert_eq(r.ret, size)
    t:assert_eq(r.out_bufs[1]:sub(1, size), frame)
  end
end)

-- The messages of a dump, as {type, body}.
local function dump(kind, body)
  local fd = vm:syscall(SOCKET, AF_NETLINK, SOCK_RAW, 0).ret
  local request = string.pack("<I4I2I2I4I4", 16 + #body, kind, 0x301, 1, 0) .. body -- NLM_F_REQUEST | NLM_F_DUMP
  assert(vm:syscall(SENDTO, {args = {fd, 0, #request, 0, 0, 0}, bufs = {request}, ptrs = {1}}).ret == #request)
  local out = {}
  while true do
    local r = vm:syscall(RECVFROM, {args = {fd, 0, 32768, 0, 0, 0}, bufs = {("\0"):rep(32768)}, ptrs = {1}})
    assert(r.ret > 0, "recv: errno " .. r.errno)
    local at = 1
    while at <= r.ret do
      local length, type = string.unpack("<I4I2", r.out_bufs[1], at)
      if type == 3 then -- NLMSG_DONE
        vm:syscall(CLOSE, fd)
        return out
      end
      out[#out + 1] = {type = type, body = r.out_bufs[1]:sub(at + 16, at + length - 1)}
      at = at + (length + 3 & ~3)
    end
  end
end

local function attributes(body, from)
  local out = {}
  while from + 4 <= #body do
    local length, type = string.unpack("<I2I2", body, from)
    out[type & 0x3fff] = body:sub(from + 4, from + length - 1)
    from = from + (length + 3 & ~3)
  end
  return out
end

test("a dump of the links", function(t)
  local links = {}
  for _, m in ipairs(dump(18, ("\0"):rep(16))) do -- RTM_GETLINK, struct ifinfomsg
    t:assert_eq(m.type, 16)
    local _, _, i, flags = string.unpack("<I2I2i4I4", m.body)
    local a = attributes(m.body, 17)
    links[string.unpack("z", a[3])] = {index = i, up = flags & 1 == 1, mac = a[1], mtu = string.unpack("<I4", a[4])}
  end
  t:assert_eq(links.va.index, index("va"))
  t:assert(links.va.up and links.vb.up)
  t:assert_eq(links.vb.mtu, 1500)
  local mac = ("%02x:%02x:%02x:%02x:%02x:%02x"):format(links.va.mac:byte(1, 6))
  t:assert_eq(mac .. "\n", vm:read_file("/sys/class/net/va/address"))
  t:assert_eq(links.lo.index, 1)
end)

test("a dump of the addresses", function(t)
  local found
  for _, m in ipairs(dump(22, ("\0"):rep(8))) do -- RTM_GETADDR, struct ifaddrmsg
    local family, prefix, _, _, i = string.unpack("<I1I1I1I1I4", m.body)
    if family == 2 and i == index("va") then
      found = ("%d.%d.%d.%d"):format(attributes(m.body, 9)[1]:byte(1, 4)) .. "/" .. prefix
    end
  end
  t:assert_eq(found, "10.99.0.1/24")
end)
