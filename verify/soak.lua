-- Acts in an order and with numbers that `seed` decides, and after each of them a look at
-- everything that must be as before. The line above this file sets `seed`, `acts`, and
-- `row`: how many guests come one after the other in every fourth act (0: there is no such act).
math.randomseed(seed)
local done = {boots = 0, restores = 0, forks = 0, acts = 0}
local function count(what, n) done[what] = done[what] + (n or 1) end
local name = ("soak%d"):format(seed)

local function sh(vm, command) return (vm:run(command, {timeout = "60s"}):assert_ok().stdout:gsub("\n$", "")) end
local function small(more)
  local opts = {memory = "128M"}
  for k, v in pairs(more or {}) do opts[k] = v end
  return opts
end

-- The guest from which the others come. It lives as long as the file.
local base = provium:vm(name, "host", small()):boot()
count("boots")
base:write_file("/tmp/base", name)
local first = base:snapshot()

-- Two guests with a network, which stay.
local net = provium:bridge("net")
local left = provium:vm(name .. "-left", "host", small{disks = {{scratch = "4M", id = "data"}}})
local right = provium:vm(name .. "-right", "host", small())
net:attach{left, right}
provium:boot()
count("boots", 2)

-- processes returns the ids of the QEMU processes of the VMs whose names match a pattern of grep.
local function processes(names)
  local out = {}
  local list = io.popen("grep -l -a -z -x 'guest=" .. names .. "' /proc/[0-9]*/cmdline 2>/dev/null")
  for pid in list:read("a"):gmatch("/proc/(%d+)/cmdline") do out[#out + 1] = math.tointeger(tonumber(pid)) end
  list:close()
  return out
end
-- signal sends a signal to the QEMU process of a VM. One that was restored ahead of need has no name
-- of its own.
local function signal(vm, sig) assert(os.execute(("kill -%s %d"):format(sig, vm:cid()))) end

-- another returns a guest of the act, restored from the first snapshot.
local serial = 0
local function another()
  serial = serial + 1
  local vm = provium:vm(("%s-%d"):format(name, serial), "host", small())
  vm:restore(first)
  count("restores")
  return vm
end

local function answers(from, to) return from:run("ping -c 1 -W 1 " .. to):ok() end
-- A host that is busy may lose the first answers.
local function reach(from, to) wait_until(function() return answers(from, to) end, {timeout = "60s", desc = "a way to " .. to}) end

local all = {
  ["restore, and the content is there"] = function(t)
    base:shutdown()
    base:restore(first)
    count("restores")
  end,
  ["several restores of one snapshot"] = function(t)
    for _ = 1, math.random(3, 6) do
      local vm = another()
      t:assert_eq(vm:read_file("/tmp/base"), name)
      vm:shutdown()
    end
  end,
  ["a long row of guests"] = function(t)
    -- Most of them are restored; of every ten, one is booted from the cache and one is a fork.
    local vm, from = provium:vm(("%s-row"):format(name), "host", small()), another()
    for i = 1, row do
      local kind, guest = i % 10, vm
      if kind == 0 then
        serial = serial + 1
        guest = provium:vm(("%s-%d"):format(name, serial), "host", small()):boot()
        count("boots")
      elseif kind == 5 then
        guest = from:fork()
        count("forks")
      else
        vm:restore(first)
        count("restores")
      end
      if kind == 0 then
        t:assert_eq(#guest:listdir("/tmp"), 0)
      else
        t:assert_eq(guest:read_file("/tmp/base"), name)
      end
      guest:shutdown()
    end
  end,
  ["boot from the cache"] = function(t)
    serial = serial + 1
    local vm = provium:vm(("%s-%d"):format(name, serial), "host", small()):boot()
    count("boots")
    t:assert(not vm:run("test -e /tmp/base"):ok())
  end,
  ["forks diverge"] = function(t)
    local vm = another()
    local two = vm:fork(2)
    count("forks", 2)
    two[1]:write_file("/tmp/base", "one")
    two[2]:write_file("/tmp/base", "two")
    t:assert_eq(sh(vm, "cat /tmp/base") .. sh(two[1], "cat /tmp/base") .. sh(two[2], "cat /tmp/base"), name .. "onetwo")
  end,
  ["snapshot of a change"] = function(t)
    local vm, text = another(), ("x"):rep(math.random(1, 200000))
    vm:write_file("/tmp/changed", text)
    local s = vm:snapshot()
    vm:write_file("/tmp/changed", "later")
    vm:shutdown()
    vm:restore(s)
    count("restores")
    t:assert(vm:read_file("/tmp/changed") == text, "the file is not as it was at the snapshot")
  end,
  ["a sector fails"] = function(t)
    local d, sector = left:disk("data"), math.random(0, 4000)
    local read = ("dd if=/dev/vda bs=512 skip=%d count=1 iflag=direct status=none of=/dev/null"):format(sector)
    d:inject{sectors = sector}
    t:assert(not left:run(read):ok(), "the read has worked")
    d:clear_rules()
    sh(left, read)
  end,
  ["a power cut"] = function(t)
    local d, sector = left:disk("data"), math.random(0, 2000)
    local write = "printf %%s %s | dd of=/dev/vda bs=512 seek=%d conv=sync,notrunc%s oflag=direct status=none"
    sh(left, write:format("kept", sector, ",fsync"))
    sh(left, write:format("lost", sector, ""))
    d:power_cut()
    t:assert_eq(d:read_sectors(sector, 1):sub(1, 4), "kept")
  end,
  ["a partition, and its end"] = function(t)
    local to = right:nic("net"):ip()
    reach(left, to)
    net:partition(left, right)
    t:assert(not answers(left, to), "the partition lets packets through")
    net:restore_all()
    reach(left, to)
  end,
  ["limits of operations"] = function(t)
    t:assert(base:run("sleep 1000", {timeout = "100ms"}).timed_out)
    t:assert(base:run_async("sleep 1000"):wait("50ms").timed_out)
    local p = base:run_async("sleep 1000")
    p:kill()
    p:wait("60s")
  end,
  ["a killed machine"] = function(t)
    local vm = another()
    signal(vm, "KILL")
    wait_until(function() return vm:state() == "dead" end, {timeout = "60s"})
    t:assert_contains(t:assert_raises(function() vm:run("true") end), "dead")
    vm:shutdown()
    vm:restore(first)
    count("restores")
    t:assert_eq(vm:read_file("/tmp/base"), name)
  end,
  ["a machine that stands still for a while"] = function(t)
    local vm = another()
    local p = vm:run_async("sleep 0.2; echo woke")
    signal(vm, "STOP")
    os.execute(("sleep %.1f"):format(math.random() * 1.5))
    signal(vm, "CONT")
    t:assert_eq(p:wait("60s").stdout, "woke\n")
  end,
  ["a killed executor"] = function(t)
    local vm = another()
    local GETPID = 39
    vm:run("kill -9 " .. vm:syscall(GETPID).ret)
    t:assert_eq(sh(vm, "echo again"), "again")
  end,
  ["a killed agent"] = function(t)
    local vm = another()
    t:assert_contains(t:assert_raises(function() vm:run("kill -9 $PPID; sleep 1000") end), "the agent is lost")
    t:assert_eq(vm:state(), "dead")
  end,
  ["a kernel that panics"] = function(t)
    local vm = another()
    t:assert_contains(t:assert_raises(function() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end), "Kernel panic")
    t:assert_eq(vm:state(), "dead")
  end,
  ["many at once"] = function(t)
    local tasks, sum = {}, 0
    for i = 1, 8 do
      tasks[i] = function()
        local answer = tonumber(sh(i % 2 == 0 and left or right, "echo " .. i))
        sum = sum + answer
      end
    end
    parallel(tasks)
    t:assert_eq(sum, 36)
  end,
  ["the guest's clock is set"] = function(t)
    local clock, before = base:clock(), base:clock():get()
    clock:set(before + math.random(-100000, 100000))
    sh(base, "true")
    clock:set(before)
  end,
}

if row == 0 then all["a long row of guests"] = nil end
local names = {}
for n in pairs(all) do names[#names + 1] = n end
table.sort(names)

-- Runners have no more descriptors open after an act than before it. The second result is what they are of.
local function descriptors()
  local list = io.popen("ls -l /proc/$PPID/fd | sed 's/.* -> //; s/[0-9][0-9]*/N/g' | sort | uniq -c | sort -rn")
  local text, n = list:read("a"), 0
  list:close()
  for count in text:gmatch("%s*(%d+) [^\n]*\n") do n = n + tonumber(count) end
  return n, text
end

-- templates returns how many templates of guests there are. A runner keeps four.
local function templates()
  local list = io.popen("pgrep -c -P $(pgrep -d , -P $PPID -f provium-fork-serve[r]) -f ^provium-template 2>/dev/null")
  local n = tonumber(list:read("a"))
  list:close()
  return n or 0
end

local before
for i = 1, acts do
  local act = names[math.random(#names)]
  if row > 0 and i % 4 == 0 then act = "a long row of guests" end
  local own = math.random(1 << 30)
  test(("%d: %s"):format(i, act), {allow_oops = act == "a kernel that panics"}, function(t)
    math.randomseed(own)
    all[act](t)
    done.acts = done.acts + 1
  end)
  test(("%d: all is as before"):format(i), function(t)
    -- The guests of the act have ended with its test.
    for _, others in ipairs{"[0-9]*", "row"} do
      t:assert_eq(#processes(("%s-%s"):format(name, others)), 0, "processes of guests of the act")
    end
    for _, vm in ipairs{base, left, right} do
      local process <close> = assert(io.open(("/proc/%d/cmdline"):format(vm:cid())), "0 processes of " .. vm:name())
      t:assert_eq(vm:state(), "booted")
      t:assert_eq(vm:open_file_count(), 0)
      t:assert_eq(sh(vm, "echo alive; ps -o comm | grep -c -x sleep || :"), "alive\n0")
    end
    t:assert_eq(base:read_file("/tmp/base"), name)
    wait_until(function() return templates() <= 4 end, {timeout = "60s", desc = "the end of templates beyond four"})
    reach(right, left:nic("net"):ip())
    -- Each guest that was restored ahead of need has some.
    local now, what = descriptors()
    local ahead = #processes("prewarmed")
    if before and now > before + 8 + 10 * ahead then
      t:fail(("%d descriptors, %d before, with %d guests ahead of need:\n%s"):format(now, before, ahead, what))
    end
    before = before or now
    -- What was done since the last look: a file that is killed has said all but the rest.
    for _, what in ipairs{"acts", "boots", "restores", "forks"} do
      t:log(("%s: %d"):format(what, done[what]))
      done[what] = 0
    end
  end)
end
