-- provium.reset_between_tests: each test starts from the state that the chunk left.
provium.reset_between_tests = true
local function sh(vm, text) return (vm:run(text):assert_ok().stdout:gsub("\n$", "")) end

local a = provium:vm("a", "host"):boot()
local b = provium:vm("b", "host"):boot()
local later = provium:vm("later", "host")
local net = provium:bridge("net")
net:attach({a, b})
net:add_latency(1)
a:attach_disk({id = "d", size = "8M"}):write_sectors(0, "base")
sh(a, "echo base > /tmp/x")
local f = a:open_file("/tmp/kept", {read = true, write = true, create = true})
f:write("0123456789")
b:pause()

local function expect_baseline(t)
  t:assert_eq(a:state() .. b:state() .. later:state(), "bootedpausedcreated")
  t:assert_eq(sh(a, "cat /tmp/x"), "base")
  local d = a:disk("d") -- the handle of one that was detached stays detached
  t:assert_eq(d:read_sectors(0, 1):sub(1, 4), "base")
  t:assert_eq(#d:active_faults(), 0)
  t:assert_eq(net:latency_ms(), 1)
  t:assert(not net:is_partitioned("a", "b"))
  t:assert_eq(table.concat(net:members(), " "), "a b")
  f:seek(0)
  t:assert_eq(f:read(10), "0123456789") -- a handle of file scope stays valid
  b:resume()
  sh(a, "ping -c 1 -w 20 b")
end

local function change()
  sh(a, "echo changed > /tmp/x")
  local d = a:disk("d")
  d:write_sectors(0, "else")
  d:fault_inject("eio_read")
  net:reset()
  net:partition(a, b)
  net:nic(b):disconnect()
  later:boot()
end

test("the first one", function(t)
  t:assert(provium.reset_between_tests)
  expect_baseline(t)
  change()
  t:assert_contains(tostring(select(2, pcall(function() provium.reset_between_tests = false end))), "inside a test body")
end)

test("after changes", function(t)
  expect_baseline(t)
  b:shutdown()
  a:power_button()
end)

test("after guests that ended", function(t)
  expect_baseline(t)
  net:detach(a)
  a:disk("d"):detach()
  provium:vm("own", "host"):boot() -- of this test
end)

test("after a detached NIC and disk", function(t)
  expect_baseline(t)
end)
