-- Time is a test's to move: a job that runs "once a day" is tested in a second.
local vm = provium:vm("cron", "host", {
  initial_time = 1700000000, -- 2023-11-14 22:13:20 UTC
  files = {
    {path = "/usr/bin/daily", mode = 0x1ed, content = [[
#!/bin/sh
# Does its work when the last run is a day or more ago.
now=$(date +%s)
last=$(cat /var/daily.stamp 2>/dev/null || echo 0)
[ $((now - last)) -ge 86400 ] || { echo "not yet"; exit 0; }
echo "$now" > /var/daily.stamp
echo "worked"
]]},
  },
}):boot()

test("the job works once a day", function(t)
  t:assert_eq(vm:run("daily").stdout, "worked\n")
  t:assert_eq(vm:run("daily").stdout, "not yet\n")
  vm:clock():advance("23h")
  t:assert_eq(vm:run("daily").stdout, "not yet\n")
  vm:clock():advance("1h")
  t:assert_eq(vm:run("daily").stdout, "worked\n")
end)

test("a clock that jumps back does not make it work twice", function(t)
  vm:clock():advance("-2h")
  t:assert_eq(vm:run("daily").stdout, "not yet\n")
end)
