-- What a test leaves open is closed at its end: first streams, then processes, files and
-- workers, and within a kind in the order of opening.

local vm = provium:vm("order", "host"):boot()
local names = {"stream", "first-process", "second-process", "first-file", "second-file", "worker"}

vm:mkdir("/tmp/order")
for _, name in ipairs(names) do vm:write_file("/tmp/order/" .. name, "") end

-- An inotify watch on each file: IN_CLOSE_WRITE and IN_CLOSE_NOWRITE.
local INOTIFY_INIT1, INOTIFY_ADD_WATCH, IN_CLOSE = 294, 254, 0x18
local inotify = vm:syscall(INOTIFY_INIT1, 2048).ret -- does not block
local watched = {}
for _, name in ipairs(names) do
  local wd = vm:syscall(INOTIFY_ADD_WATCH, {args = {inotify, 0, IN_CLOSE}, bufs = {"/tmp/order/" .. name .. "\0"}, ptrs = {1}}).ret
  watched[wd] = name
end

test("everything is left open", function(t)
  -- Opened in the reverse order of closing.
  local w = vm:spawn_worker()
  t:assert(w:syscall(2, {args = {0, 1}, bufs = {"/tmp/order/worker\0"}, ptrs = {0}}).ret > 0)
  vm:open_file("/tmp/order/first-file", {write = true})
  vm:open_file("/tmp/order/second-file", {write = true})
  for _, name in ipairs{"first-process", "second-process"} do
    local p = vm:run_async("trap 'echo ended > /tmp/order/" .. name .. "; exit' TERM; sleep 1000 & wait")
    wait_until(function()
      local caught = vm:read_file("/proc/" .. p:pid() .. "/status"):match("SigCgt:%s*(%x+)")
      return tonumber(caught, 16) & 1 << 14 ~= 0
    end, {desc = "the shell catches SIGTERM"})
  end
  vm:tail_file("/tmp/order/stream")
  t:assert_eq(vm:open_file_count(), 2)
  t:assert_eq(vm:open_stream_count(), 1)
  t:assert(not vm:is_quiescent())
end)

test("and was closed in order", function(t)
  t:assert(vm:is_quiescent())
  local r = vm:syscall(0, {args = {inotify, 0, 4096}, bufs = {("\0"):rep(4096)}, ptrs = {1}})
  local seen = {}
  for at = 1, r.ret, 16 do
    local name = watched[string.unpack("<i4", r.out_bufs[1], at)]
    if seen[#seen] ~= name then seen[#seen + 1] = name end
  end
  t:assert_eq(table.concat(seen, " "), table.concat(names, " "))
end)
