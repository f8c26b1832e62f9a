-- A guest whose memory holds what looks like the kernel's note about itself, with addresses that lead nowhere, to the
-- note itself and to lists without an end: the kernel's own log is read all the same, and what is no log is an error.

local fields = "SIZE(printk_ringbuffer)=80\nOFFSET(printk_ringbuffer.desc_ring)=0\n" ..
  "OFFSET(printk_ringbuffer.text_data_ring)=40\nOFFSET(printk_ringbuffer.fail)=72\nSIZE(prb_desc_ring)=40\n" ..
  "OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n" ..
  "OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)=24\n" ..
  "OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nSIZE(prb_data_blk_lpos)=16\n" ..
  "OFFSET(prb_data_blk_lpos.begin)=0\nOFFSET(prb_data_blk_lpos.next)=8\nSIZE(printk_info)=88\n" ..
  "OFFSET(printk_info.seq)=0\nOFFSET(printk_info.ts_nsec)=8\nOFFSET(printk_info.text_len)=16\n" ..
  "OFFSET(printk_info.caller_id)=20\nSIZE(prb_data_ring)=24\nOFFSET(prb_data_ring.size_bits)=0\n" ..
  "OFFSET(prb_data_ring.data)=8\nSIZE(atomic_long_t)=8\nOFFSET(atomic_long_t.counter)=0\n"

-- note returns one whose kernel begins at an address, and whose log is there.
local function note(at, log)
  return ("OSRELEASE=6.1.0-forged\nPAGESIZE=4096\nNUMBER(phys_base)=0\nSYMBOL(init_top_pgt)=%x\n" ..
    "NUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\nSYMBOL(prb)=%x\nSYMBOL(clear_seq)=%x\n"):format(at, log, log + 8) .. fields
end

test("notes that are forged are passed over", function(t)
  local vm = provium:vm("forger", "host", {memory = "128M"}):boot()
  vm:run("echo from the kernels log > /dev/kmsg"):assert_ok()
  local all = {}
  for i = 0, 2047 do
    local n = note(0xffffffff80000000 + 4096 * i, 0xffffffff81000000 + 512 * i)
    all[#all + 1] = n .. ("\0"):rep(4096 - #n) -- one a page
  end
  vm:write_file("/dev/shm/forged", table.concat(all))
  vm:pause() -- so that the agent cannot help
  local log = vm:dmesg()
  t:assert_contains(log, "Linux version")
  t:assert_contains(log, "from the kernels log")
  local copy = vm:fork() -- whose memory is looked through anew
  t:assert_contains(copy:dmesg(), "from the kernels log")
  vm:resume()
  t:assert_eq(vm:run("echo alive").stdout, "alive\n")
end)

test("a panic beside forged notes has its report", function(t)
  local vm = provium:vm("forger", "host", {memory = "128M"}):boot()
  local n = note(0xffffffff80000000, 0xffffffff81000000)
  vm:write_file("/dev/shm/forged", (n .. ("\0"):rep(4096 - #n)):rep(1024))
  t:expect_kernel("Kernel panic - not syncing: sysrq triggered crash")
  t:assert_raises(function() vm:run("echo c > /proc/sysrq-trigger; sleep 1000") end)
  t:assert_contains(vm:dmesg(), "Call Trace:")
end)
