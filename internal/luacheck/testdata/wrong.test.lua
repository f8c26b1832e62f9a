local vm = provium:vm("a", "hots", {memroy = "1G", files = {{pat = "/x"}}}):boot() --> lab:vm: files: unknown option `pat` (did you mean `path`?); lab:vm: unknown option `memroy` (did you mean `memory`?); unknown profile `hots` (did you mean `host`?)
local other = provium:vm("b", "host")
other = nil
provium.timout = 5 --> unknown setting `timout` of provium (did you mean `timeout`?)
test("one", {timeout = "5 sec", tags = 5, owner = "x"}, function(t) --> test: option `tags` must be string|string[], got number; test: option `timeout`: cannot parse `5 sec` (a decimal number with ms, s, m or h)
  t:assert_equal(vm:run("x").stdout, "") --> unknown method `assert_equal` of t (did you mean `assert_eq`?)
  t:log(vm:run("x").stdoutt .. t.nam) --> unknown field or method `nam` of t (did you mean `name`?); unknown field or method `stdoutt` of run_result (did you mean `stdout`?)
  vm:run("x", {timeot = "1s", cwd = 5}) --> vm:run: option `cwd` must be string, got number; vm:run: unknown option `timeot` (did you mean `timeout`?)
  vm:rum("x") --> unknown method `rum` of vm (did you mean `run`?)
  vm:push_file("a", "b", {something = 1}) --> vm:push_file: unknown option `something` (valid: perm, auto_dep, timeout)
  vm:console():expect({patern = "x"}) --> console:expect: unknown option `patern` (did you mean `pattern`?)
  vm.run("x") --> self is missing: call it with ':' as in vm:run(...), not '.'
  asert(true) --> unknown variable `asert` (did you mean `assert`?)
  local f = vm:open_file("/x", {raed = true}) --> vm:open_file: unknown option `raed` (did you mean `read`?)
  f:reed() --> unknown method `reed` of file (did you mean `read`?)
  wait_until(function() return true end, {timeout = true}) --> wait_until: option `timeout` must be duration, got boolean
  json.encod{} --> unknown function `json.encod` (did you mean `encode`?)
  vm:batch(function(b)
    b:rum("x") --> unknown method `rum` of batch (did you mean `run`?)
    b:stat("/x", {folow = true}) --> batch:stat: unknown option `folow` (did you mean `follow`?)
  end)
  other:rum() --> unknown method `rum` of vm (did you mean `run`?)
  local d = vm:disk("x")
  d:crash_points{
    chek = true, --> disk:crash_points: unknown option `chek` (did you mean `check`?)
    check = function(vm, disk, point)
      disk:sise() --> unknown method `sise` of disk (did you mean `size`?)
      vm:nam() --> unknown method `nam` of vm (did you mean `name`?)
    end,
  }
  d:sweep{op = "write"}(function(vm, disk, n)
    disk:sise() --> unknown method `sise` of disk (did you mean `size`?)
  end)
  provium.vm_fixture("nothing"):nam() --> unknown fixture `nothing` (known: setups/base); unknown method `nam` of vm (did you mean `name`?)
  provium:lab_fixture("setups/bas") --> unknown fixture `setups/bas` (did you mean `setups/base`?)
  require("no.module") --> module `no.module` is below no root
  require("../lib") --> module `../lib` is below no root
  if os.getenv("X") == undefinedthing then end --> unknown variable `undefinedthing`
  vm:fork():rum() --> unknown method `rum` of vm (did you mean `run`?)
  vm:run(5) --> vm:run: argument 1 (command) must be string, got number
  vm:snapshot():sise() --> unknown method `sise` of snapshot (did you mean `size`?)
  local r, again = vm:read_mem(1, 2)
  ;(vm):rum() --> unknown method `rum` of vm (did you mean `run`?)
end)
do
  test("one", function() end) --> duplicate test `one`, the first one is in line 5
end
test.each({1}, "x", function(t, case)
  t:nam() --> unknown method `nam` of t (did you mean `name`?)
end)
test.each({1}, "y", {tags = "a"}, function(t, case)
  t:nam() --> unknown method `nam` of t (did you mean `name`?)
end)
before_each(function(t)
  t:nam() --> unknown method `nam` of t (did you mean `name`?)
end)
