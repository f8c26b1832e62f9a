-- The plainest fixture: a booted guest with a file.
local vm = provium:vm("box", "host"):boot()
vm:write_file("/tmp/made", "by the fixture")
vm:run("echo set up by the fixture > /dev/console"):assert_ok()
return vm:snapshot()
