-- parallel, co and barriers, with operations of real guests.

local vm = provium:vm("par", "host"):boot()

test("operations of tasks overlap", function(t)
  local fns = {}
  for i = 1, 8 do
    fns[i] = function()
      -- It ends when all have begun.
      local all = "echo on >>/tmp/begun; while [ $(wc -l </tmp/begun) -lt 8 ]; do sleep 0.1; done; echo " .. i
      return tonumber((vm:run(all).stdout))
    end
  end
  local results = table.pack(parallel(fns))
  for i = 1, 8 do t:assert_eq(results[i], i) end
end)

test("a barrier orders what tasks do in the guest", function(t)
  local function side(name)
    return function()
      vm:write_file("/tmp/" .. name, "here")
      provium:barrier("both", 2)
      return #vm:listdir("/tmp")
    end
  end
  vm:run("rm -rf /tmp/*")
  local a, b = parallel{side("a"), side("b")}
  t:assert_eq(a, 2)
  t:assert_eq(b, 2)
end)

test("the first error stops the other tasks and their commands", function(t)
  local err = t:assert_raises(function()
    parallel{
      function() vm:run("sleep 1000") end,
      function()
        wait_until(function() return vm:run("pidof sleep"):ok() end)
        error("enough")
      end,
    }
  end)
  t:assert_contains(err, "enough")
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)

test("an operation lets others proceed also inside gsub, sort and metamethods", function(t)
  local function meet(n) provium:barrier("deep", 3, "20s") return vm:run("echo " .. n).stdout end
  local a, b, c = parallel{
    function() return (("x"):gsub("x", function() return meet(1) end)) end,
    function()
      local seen
      table.sort({2, 1}, function(x, y) seen = seen or meet(2) return x < y end)
      return seen
    end,
    function() return setmetatable({}, {__index = function() return meet(3) end}).any end,
  }
  t:assert_eq(a .. b .. c, "1\n2\n3\n")
end)

test("parallel in parallel, with results in order whoever is first", function(t)
  local function after(seconds, value)
    return function() vm:run("sleep " .. seconds) return value, "more" end
  end
  local function pair(a, b) return function() return table.pack(parallel{after(0.2, a), after(0.1, b)}) end end
  local results = table.pack(parallel{pair("a", "b"), after(0.1, "c"), pair("d", "e"), function() end})
  t:assert_eq(results.n, 4)
  t:assert_eq(table.concat(results[1]) .. results[2] .. table.concat(results[3]), "abcde")
  t:assert_eq(results[4], nil)
end)

test("an error inside goes through both, and stops what runs in either", function(t)
  local reached = {}
  local err = t:assert_raises(function()
    parallel{
      function() parallel{function() vm:run("sleep 1000") reached[1] = true end, function() vm:clock():sleep(1000) reached[2] = true end} end,
      function() vm:spawn_worker():syscall(34) reached[3] = true end,
      function()
        wait_until(function() return vm:run("pidof sleep && grep -q '^34 ' /proc/[0-9]*/syscall"):ok() end)
        parallel{function() vm:run("exit 3"):assert_ok() end}
      end,
    }
  end)
  t:assert_contains(err, "command failed: status=exited code=3")
  t:assert_eq(#reached, 0)
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)

test("co.wrap runs in the background until the test's end", function(t)
  local got = {}
  for i = 1, 2 do
    co.wrap(function(n)
      provium:barrier("wrapped", 2)
      got[n] = vm:run("echo " .. n).stdout
    end)(i)
  end
  wait_until(function() return got[1] and got[2] end)
  t:assert_eq(got[1] .. got[2], "1\n2\n")
end)

test("a skip in a task skips the test", function(t)
  parallel{function() t:skip("no need") end, function() vm:run("sleep 1000") end}
end)

test("after all that nothing is left in flight", function(t)
  t:assert(vm:is_quiescent())
  t:assert_eq(vm:run("pidof sleep").exit_code, 1)
end)
