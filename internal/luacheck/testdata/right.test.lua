#!/usr/bin/env provium
-- Nothing is found here.
local words = require("lib.words")
shared = 1
local vm = provium:vm("a", "host", {memory = 1 << 30, files = {{path = "/x", content = ""}}}):boot()
local changing = vm
changing = words.thing
changing:anything()
local function refused(want, fn, ...)
  local ok, err = pcall(fn, ...)
  return not ok and err:find(want)
end
local name = arg and arg[1] or DEBUG
if HELPER == nil then shared = 2 end
test("one", function(t)
  pcall(function() vm:rum("x") end)
  t:assert_raises(function() vm:run("x", {tmeout = 1}) end)
  t:assert_error_matches(function() vm:rum() end, "x")
  refused("x", vm.nosuch, vm)
  refused("x", function() vm:run("x", {nosuch = 1}) end)
  t:log(provium.a:name() .. shared .. from_module .. vm.run(vm, "x").stdout)
  vm:run("x", {"a", "b"})
  vm:run("x", {args = {"a"}, ["timeout"] = 1.5, env = {ANY = "1"}})
  vm:run_async("x"):stdout_stream():expect({pattern = "x"}, "5s")
  for _, e in ipairs(vm:listdir("/")) do t:log(e.nosuch) end
  for _, v in ipairs(vm:fork(2)) do v:anything() end
  local net = provium:bridge("net", {seed = 7})
  net:drop_rate(5, {burst = 4})
  net:drop_rate{from = vm, to = "b", p = 5, burst = 4}
  net:attach({vm, "b"})
  vm:mount("none", "/x", nil, {options = "bind"})
  vm:syscall(1, {args = {1}, bufs = {"x"}, nested = {{parent = 1, child = 1, offset = 0}}})
  vm:syscall(1, 2, 3, 4, 5, 6, 7)
  t.meta.anything = 1
  local t = {}
  t:anything()
end)
local key = "x"
test("two", {anything = {1}, [key] = 1, skip = "why", timeout = "1.5m"}, function(t, ...) end)
test("three " .. name, {tags = {"a"}}, print)
for i = 1, 2 do test("in a loop " .. i, function() end) end
if shared then test("one", function() end) end
