-- A guest of another architecture, with a process that is always busy.
local vm = provium:vm("box", "riscv64"):boot()
vm:write_file("/tmp/made", "by the fixture")
vm:run_async("while :; do :; done")
return vm:snapshot()
