-- Deterministic guests that send each other frames.

local function guests(names)
  local lan, vms = provium:bridge("lan"), {}
  for i, name in ipairs(names) do
    vms[i] = provium:vm(name, "host", {deterministic = true, memory = "256M"})
    lan:attach(vms[i])
  end
  return lan, vms
end

-- pings returns the answers to 20 packets.
local function pings(vm, to)
  return vm:run("ping -c 20 -i 0.01 -W 1 " .. to .. " | grep seq=").stdout
end

test("frames are lost by the seed, and arrive in the guests' time", function(t)
  local lan, vms = guests({"a", "b"})
  for _, vm in ipairs(vms) do vm:boot() end
  lan:drop_rate(25)
  lan:add_latency(5)
  local answers = pings(vms[1], "b")
  local n, took = 0, math.huge
  for ms in answers:gmatch("time=([%d.]+) ms") do
    n, took = n + 1, math.min(took, tonumber(ms))
  end
  t:assert(n > 2 and n < 19, "answers of 20 packets: " .. answers)
  t:assert(took >= 10 and took < 16, "the fastest: " .. took .. " ms")
  -- The others stand while nobody waits, and are at the same time when somebody does.
  local uptime = function(vm) return tonumber(vm:run("cut -d ' ' -f 1 /proc/uptime").stdout) end
  local first = {uptime(vms[1]), uptime(vms[2])}
  vms[1]:clock():warp("100s")
  local passed = uptime(vms[2]) - first[2]
  t:assert(passed > 99 and passed < 102, "of the other guest's time, " .. passed .. " s have passed")
  -- What would send by the host's time is refused.
  for want, act in pairs({
    ["a port would send"] = function() lan:port() end,
    ["a gateway would send"] = function() lan:enable_uplink() end,
    ["guests that are not"] = function()
      local other = provium:vm("other", "host", {memory = "256M"})
      lan:attach(other)
      other:boot()
    end,
    ["before it boots"] = function() provium:bridge("late"):attach(vms[1]) end,
  }) do
    t:assert_contains(tostring(t:assert_raises(act)), want)
  end
end)

test("three guests talk by TCP over a bridge that loses frames", {slow = true}, function(t)
  local lan, vms = guests({"c", "d", "e"})
  for _, vm in ipairs(vms) do vm:boot() end
  lan:drop_rate(20)
  vms[3]:run("(while :; do nc -l -p 7 -e cat; done) >/dev/null 2>&1 &")
  local send = "head -c 20000 /dev/zero | nc -w 3 e 7 | md5sum"
  local want = vms[1]:run("head -c 20000 /dev/zero | md5sum").stdout
  t:assert_eq(vms[1]:run(send).stdout, want)
  t:assert_eq(vms[2]:run(send).stdout, want)
end)

test("guests on a bridge are restored, copied and saved together", function(t)
  local l = provium:lab("l")
  local lan, vms = l:bridge("lan"), {}
  for i, name in ipairs({"f", "g"}) do
    vms[i] = l:vm(name, "host", {deterministic = true, memory = "256M"})
    lan:attach(vms[i])
    vms[i]:boot()
  end
  local answers = function(vm, to) return select(2, pings(vm, to):gsub("seq=", "")) end
  local uptime = function(vm) return tonumber(vm:run("cut -d ' ' -f 1 /proc/uptime").stdout) end
  vms[2]:run("while :; do echo; sleep 0.1; done >/tmp/log 2>&1 &")
  t:assert_eq(answers(vms[1], "g"), 20)
  local one = vms[1]:snapshot()
  vms[1]:shutdown()
  t:assert_eq(answers(vms[2], "f"), 0)
  vms[1]:restore(one)
  t:assert_eq(answers(vms[1], "g"), 20)
  for _, copy in ipairs(vms[2]:fork(2)) do
    t:assert_eq(answers(copy, "f"), 20)
    t:assert_eq(answers(vms[1], copy:name()), 20)
  end
  local all = l:snapshot() -- of the bridge, too, on which the copies stay
  local saved = {uptime(vms[1]), uptime(vms[2])}
  vms[1]:clock():warp("20s")
  l:restore(all)
  local restored = {uptime(vms[1]), uptime(vms[2])}
  for i = 1, 2 do
    t:assert(math.abs(restored[i] - saved[i]) < 2, "a guest is at " .. restored[i] .. ", not at " .. saved[i])
  end
  t:assert_eq(answers(vms[2], "f"), 20)
  t:assert_eq(answers(vms[2], "g-2"), 20)
  local copy = l:fork()
  t:assert_eq(answers(copy.f, "g"), 20)
  -- The lab and its copy have one time, as all guests of a file.
  local before = vms[2]:run("wc -l </tmp/log").stdout
  copy.f:clock():warp("10s")
  local passed = vms[2]:run("wc -l </tmp/log").stdout - before
  t:assert(passed >= 90 and passed <= 101, "of the other lab's time, " .. passed / 10 .. " s have passed")
end)
