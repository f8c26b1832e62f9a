-- Fixtures: snapshots that are built once and then restored.

local shared = provium:vm_fixture("setups/base")

test("a fixture gives a booted VM that is a member of the lab", function(t)
  t:assert_eq(shared:state(), "booted")
  t:assert_eq(shared:name(), "box")
  t:assert_eq(shared:profile(), "host")
  t:assert_eq(provium:vm("box"), shared)
  t:assert_eq(shared:read_file("/tmp/made"), "by the fixture")
end)

test("each call gives an independent copy, with a name of its own", function(t)
  local a = provium:vm_fixture("setups/base")
  local b = provium.vm_fixture("setups/base")
  t:assert_eq(a:name(), "box-2")
  t:assert_eq(b:name(), "box-3")
  a:write_file("/tmp/made", "changed in a")
  t:assert_eq(b:read_file("/tmp/made"), "by the fixture")
  t:assert_eq(shared:read_file("/tmp/made"), "by the fixture")
  t:assert_neq(a:cid(), b:cid())
end)

test("what a test restores ends with the test", function(t)
  t:assert_eq(provium["box-2"], nil)
  t:assert_eq(#provium:vm_names(), 0)
end)

test("a sub-lab takes a fixture by both call forms", function(t)
  local sub = provium:lab("sub")
  t:assert_eq(sub.vm_fixture("setups/base"):name(), "box")
  t:assert_eq(sub:vm_fixture("setups/base"):name(), "box-2")
  t:assert_eq(table.concat(sub:vm_names(), " "), "box box-2")
end)

test("fixtures build on fixtures, with files of the host", function(t)
  local vm = provium:vm_fixture("setups/derived")
  t:assert_eq(vm:name(), "box-2")
  t:assert_eq(vm:read_file("/tmp/made"), "by the fixture")
  t:assert_eq(vm:read_file("/tmp/greeting"), "good morning\n")
  t:assert_eq(vm:read_file("/tmp/loud"), "GOOD MORNING\n")
end)

test("processes of the fixture go on in the copy", function(t)
  local vm = provium:vm_fixture("setups/process")
  t:assert_eq(vm:name(), "server")
  local before = vm:read_file("/tmp/alive")
  wait_until(function() return vm:read_file("/tmp/alive") ~= before end, {desc = "the process goes on"})
end)

test("a restored guest has the console of its build", function(t)
  t:assert_contains(shared:console():read_log(), "set up by the fixture")
end)

test("names that are none say what is valid", function(t)
  for name, text in pairs({
    ["/setups/base"] = "fixture name `/setups/base` is absolute",
    ["../tests/setups/base"] = "fixture name `../tests/setups/base` leaves its root",
    ["setups/absent"] = "fixture `setups/absent` not found in any test root",
    ["setups/base.fixture.lua"] = "leave .fixture.lua out of the name",
    [""] = "argument 1 (name) must not be empty",
    ["a\0b"] = "holds a NUL byte",
  }) do
    t:assert_contains(t:assert_raises(function() provium:vm_fixture(name) end), text)
  end
  t:assert_contains(t:assert_raises(function() provium:vm_fixture() end), "argument 1 (name) must be a string, got nil")
  t:assert_contains(t:assert_raises(function() provium.vm_fixture(7) end), "argument 1 (name) must be a string")
  t:assert_contains(t:assert_raises(function() provium:lab_fixture() end), "argument 1 (name) must be a string, got nil")
  t:assert_contains(t:assert_raises(function() provium.lab_fixture("setups/absent") end), "fixture `setups/absent` not found in any test root")
end)

test("a build that fails raises its error in the caller, and nothing stays", function(t)
  for name, text in pairs({
    failing = "the set-up went wrong",
    nothing = "it returned nothing: it must end in `return vm:snapshot()`",
    number = "it returned a number",
    path = 'it returned the string "/tmp/of-somebody-else", where no lab:snapshot(dir) of it went',
    syntax = "syntax.fixture.lua:1:",
    ["circle-a"] = "fixtures need each other: `setups/bad/circle-a` -> `setups/bad/circle-b` -> `setups/bad/circle-a`",
  }) do
    for _ = 1, 2 do -- failures are not cached: it is tried again
      local err = t:assert_raises(function() provium:vm_fixture("setups/bad/" .. name) end)
      t:assert_contains(err, "fixture `setups/bad/" .. name .. "`: build failed: ")
      t:assert_contains(err, text)
    end
  end
  t:assert_eq(#provium:vm_names(), 0)
end)

test("a lab fixture gives a sub-lab with all that the lab had, a new one each time", function(t)
  local one, two = provium:lab_fixture("setups/pair"), provium.lab_fixture("setups/pair")
  t:assert_eq(table.concat(provium:sub_lab_names(), " "), one:name() .. " " .. two:name())
  t:assert_eq(provium.left, nil) -- sub-labs are separate
  for _, lab in ipairs({one, two}) do
    t:assert_eq(table.concat(lab:vm_names(), " "), "left right")
    t:assert_eq(lab.left:state() .. lab.right:state() .. lab.store.spare:state(), "bootedbootedcreated")
    t:assert_eq(lab.net:latency_ms(), 3)
    t:assert_eq(lab.left:read_file("/tmp/made"), "on the left")
    t:assert_eq(lab.right:disk("data"):read_sectors(0, 1):sub(1, 11), "on the disk")
    lab.left:run("ping -c 1 -w 30 right"):assert_ok()
  end
  one.left:write_file("/tmp/made", "changed")
  one.right:disk("data"):write_sectors(0, "changed")
  one.net:reset()
  t:assert_eq(two.left:read_file("/tmp/made"), "on the left")
  t:assert_eq(two.right:disk("data"):read_sectors(0, 1):sub(1, 11), "on the disk")
  t:assert_eq(two.net:latency_ms(), 3)
end)

test("what a test restored of a lab ends with the test", function(t)
  t:assert_eq(#provium:sub_lab_names(), 0)
end)

test("the other kind names the right call", function(t)
  local err = t:assert_raises(function() provium:lab_fixture("setups/base") end)
  t:assert_contains(err, 'fixture `setups/base` is a vm: use vm_fixture("setups/base")')
  err = t:assert_raises(function() provium:vm_fixture("setups/pair") end)
  t:assert_contains(err, 'fixture `setups/pair` is a lab: use lab_fixture("setups/pair")')
  t:assert_eq(#provium:members(), 0)
end)

test("depends_on_file does nothing outside of fixtures", function(t)
  t:assert_eq(provium:depends_on_file("setups/greeting.txt"), nil)
  t:assert_eq(provium:depends_on_file("setups/absent.txt"), nil)
  t:assert_contains(t:assert_raises(function() provium:depends_on_file() end), "argument 1 (path) must be a string, got nil")
  t:assert_contains(t:assert_raises(function() provium:depends_on_file("") end), "must not be empty")
end)
