-- race has two processes lose updates of a counter, as their turns come.
local function race()
  local vm = provium:vm("a", "host", {memory = "256M"}):boot()
  vm:run([[
    echo 0 >/tmp/n
    add() { for i in 1 2 3 4 5 6 7 8; do n=$(($(cat /tmp/n) + 1)); echo $n >/tmp/n; echo $1 $n >/dev/console; done; }
    add x & add y & wait; cat /tmp/n /proc/uptime /proc/interrupts
  ]])
end

-- lossy has three guests, of which two talk to the third over a bridge that loses and delays frames.
local function lossy()
  local lan, vms = provium:bridge("lan"), {}
  for i, name in ipairs({"a", "b", "c"}) do
    vms[i] = provium:vm(name, "host", {memory = "256M"})
    lan:attach(vms[i])
  end
  lan:drop_rate(20)
  lan:add_latency(3)
  lan:add_jitter(2)
  for _, vm in ipairs(vms) do vm:boot() end
  vms[3]:run("(while :; do nc -l -p 7 -e cat; done) >/dev/null 2>&1 &")
  vms[2]:run("ping -i 0.05 c 2>&1 | tee /tmp/log >/dev/console &")
  vms[1]:run("ping -i 0.02 -c 30 b; head -c 20000 /dev/urandom | nc -w 3 c 7 | md5sum; cat /proc/uptime")
  vms[2]:run("cat /tmp/log /proc/uptime /proc/interrupts")
  vms[3]:run("cat /proc/net/dev /proc/uptime")
end

test("compared", function() ({race = race, lossy = lossy})[which]() end)
