-- A guest whose image brings its own init (inject_agent = false) finds a bare wire, and
-- what it then asks of the network.

local own = provium:vm("own", "own-agent", {memory = "192M"})
local lan = provium:bridge("lan")
lan:attach(own)
own:boot()

-- face is the interface's name, which is the guest's choice.
local face
for _, e in ipairs(own:listdir("/sys/class/net")) do
  if e.name ~= "lo" then face = e.name end
end

test("a guest that is not ours gets a wire and nothing else", function(t)
  t:assert_eq(own:read_file("/sys/class/net/" .. face .. "/address"), lan:nic(own):mac() .. "\n")
  t:assert_eq(own:run("ip -o addr show dev " .. face).stdout, "")
  t:assert_eq(own:run("ip route").stdout, "")
  t:assert_eq(own:read_file("/proc/sys/net/ipv6/conf/" .. face .. "/accept_ra"), "1\n")
  t:assert_eq(own:read_file("/proc/sys/net/ipv6/conf/" .. face .. "/accept_dad"), "1\n")
  t:assert(not own:run("grep -s provium /etc/hosts /etc/resolv.conf"):ok())
  local second = provium:bridge("second")
  second:attach(own)
  local mac = second:nic(own):mac()
  wait_until(function() return own:run("cat /sys/class/net/*/address").stdout:find(mac, 1, true) end,
    {desc = "the second NIC"})
  t:assert(not own:run("ip -o addr"):assert_ok().stdout:find("10.", 1, true))
end)
