-- The clock of a guest jumps to and fro by years, twenty times a second, while tests of Provium's own run in it, and
-- Provium itself. `only` is the regular expression of their names, `binaries` are paths by package.
local vm = provium:vm("host", "host", {memory = "1536M"}):boot()
vm:run_async([[i=0
while :; do
  i=$((i + 1))
  date -s @$((1750000000 + i % 9 * 40000000 - i % 4 * 90000)) >/dev/null && echo $i >/tmp/jumps
  usleep 50000
done]])
vm:wait_file("/tmp/jumps")

local function uptime() return tonumber(vm:read_file("/proc/uptime"):match("%S+")) end

for _, binary in ipairs(binaries) do
  test(binary.package, function(t)
    local path = vm:push_program(binary.path, {to = "/tests/" .. binary.package:gsub("/", "-") .. ".test"})
    vm:run("mkdir -p /tests/" .. binary.package):assert_ok()
    local r = vm:run(path .. " -test.v -test.short -test.timeout 30m -test.run '" .. only .. "'",
      {cwd = "/tests/" .. binary.package, timeout = "31m"})
    local _, passed = r.stdout:gsub("\n?%-%-%- PASS: Test", "")
    t:log("tests that passed: " .. passed)
    r:assert_ok()
    t:assert_gt(passed, 0)
    vm:unlink(path)
  end)
end

test("the program itself", function(t)
  local provium = vm:push_program(program)
  vm:mkdir("/project/tests", {parents = true})
  vm:write_file("/project/provium.toml", '[provium]\nroots = ["tests"]\n')
  vm:write_file("/project/tests/a.test.lua", [[
test("waits", function(t)
  local looks = 0
  wait_until(function() looks = looks + 1 return looks == 30 end, {timeout = "5m"})
end)
test("is late", {timeout = "2s"}, function(t) wait_until(function() return false end, {timeout = "5m"}) end)
test("fails in time", {timeout = "5m"}, function(t) wait_until(function() return false end, {timeout = "1s"}) end)
]])
  local began = uptime()
  local r = vm:run(provium .. " --vmm local --json --no-preflight --no-ksm --timeout 600",
    {cwd = "/project", timeout = "10m"})
  local took = uptime() - began
  t:assert_eq(r.exit_code, 1)
  local file = json.decode(r.stdout:match("[^\n]+"))
  t:assert_eq(#file.tests, 3)
  t:assert_eq(file.tests[1].status, "passed")
  t:assert_contains(file.tests[2].message, "timed out after 2s")
  t:assert_contains(file.tests[3].message, "1s")
  for _, one in ipairs(file.tests) do
    t:assert(one.duration >= 0 and one.duration <= took, one.name .. " took " .. one.duration .. " s of " .. took)
  end
  t:assert(file.tests[2].duration >= 2, "it was ended before its limit")
  t:log("tests that passed: 1")
end)

test("the clock has jumped", function(t)
  local jumps = tonumber(vm:read_file("/tmp/jumps"))
  t:assert_gt(jumps, 20)
  t:log("jumps: " .. jumps)
end)
