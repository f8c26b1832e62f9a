-- A race that was seen once is seen again: with one seed, a deterministic guest does the same in each run.
-- Another seed (`provium --include-slow race.test.lua --seed 8`) has another order.
local vm = provium:vm("box", "host", {deterministic = true, memory = "128M"})

local function race()
  vm:boot()
  local out = vm:run([[
    echo 0 >/tmp/n
    add() { for i in 1 2 3 4 5 6 7 8; do echo $(($(cat /tmp/n) + 1)) >/tmp/n; done; }
    add & add & wait
    echo "$(cat /tmp/n) of 16, $(cut -d ' ' -f 1 /proc/uptime) s after the boot"
  ]]):assert_ok().stdout
  vm:shutdown()
  return out
end

test("two processes lose the same updates of a counter each time", {slow = true}, function(t)
  local first = race()
  print(first)
  t:assert_eq(race(), first)
end)
