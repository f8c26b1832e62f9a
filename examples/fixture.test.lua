-- Each call restores a copy of its own from the cache: it is running at once.
local function page(vm) return vm:run("wget -q -O - http://127.0.0.1/"):assert_ok().stdout end

test("the server of the fixture answers", function(t)
  t:assert_contains(page(provium:vm_fixture("setups/web")), "It works")
end)

test("copies do not know of each other", function(t)
  local one, two = provium:vm_fixture("setups/web"), provium:vm_fixture("setups/web")
  one:write_file("/srv/index.html", "changed")
  t:assert_eq(page(one), "changed")
  t:assert_contains(page(two), "It works")
end)
