-- A running process is part of the snapshot; the file has a path of its own.
local path = os.tmpname()
local vm = provium:vm("server", "host"):boot()
vm:run("(while :; do date +%s%N > /tmp/alive; sleep 0.1; done) </dev/null >/dev/null 2>&1 &"):assert_ok()
local s = vm:snapshot(path)
assert(test == nil and todo == nil, "a fixture has no tests")
return s
