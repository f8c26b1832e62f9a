-- Two sites and the line between them: what is slow, lossy or cut is one call away.
local hq = provium:vm("hq", "host", {memory = "128M"})
local shop = provium:vm("shop", "host", {memory = "128M"})
local wan = provium:bridge("wan", {seed = 7})
wan:attach({hq, shop})
provium:boot()

test("the shop answers by name", function(t)
  hq:run("ping -c 1 shop.wan"):assert_ok()
end)

test("the line is slow in both directions", function(t)
  wan:add_latency(100)
  local out = hq:run("ping -c 2 shop"):assert_ok().stdout
  t:assert(tonumber(out:match("min/avg/max = ([%d.]+)")) >= 200, out)
  wan:reset()
end)

test("the line is cut and mended", function(t)
  wan:partition(hq, shop)
  t:assert(not hq:run("ping -c 1 -W 1 shop"):ok())
  wan:restore_all()
  hq:run("ping -c 1 shop"):assert_ok()
end)

test("everything on the line can be recorded", function(t)
  local cap = wan:capture()
  hq:run("ping -c 1 shop"):assert_ok()
  t:assert_eq(table.concat(cap:drain()):sub(1, 4), "\xd4\xc3\xb2\xa1") -- a pcap file
  cap:close()
end)
