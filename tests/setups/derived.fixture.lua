-- Built on another one. What it uses of the host is in the cache's records: the
-- pushed file, the file that Lua reads, the module, and all that the base uses.
local words = require("setups.words")
local vm = provium:vm_fixture("setups/base")
vm:push_file("greeting.txt", "/tmp/greeting")
local f <close> = assert(io.open("tests/setups/greeting.txt"))
vm:write_file("/tmp/loud", words.loud(f:read("a")))
provium:depends_on_file("words.lua")
provium:claim({memory = "1T"}) -- without effect here
return vm:snapshot()
