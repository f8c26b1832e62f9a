-- A real cluster on a network with faults: three nodes of etcd (see scripts/setup), of
-- which one is cut off and comes back. One node and a client are in network-etcd-node.
local etcd = require("setups.etcd")
local base64, call, put = etcd.base64, etcd.call, etcd.put

local bridge = provium:bridge("db")
local nodes, names = {}, {"n1", "n2", "n3"}
for i, name in ipairs(names) do nodes[i] = provium:vm(name, "host", {memory = "512M"}) end
bridge:attach(nodes)
local n1, n2, n3 = nodes[1], nodes[2], nodes[3]

-- own returns what a node itself knows, independent of the others, in base64: "" for a key
-- that it does not have, nil without an answer.
local function own(node, key)
  local r = call(node, "range", {key = base64(key), serializable = true})
  return r and (r.kvs and r.kvs[1].value or "")
end

local function knows(node, key, value) return own(node, key) == base64(value) end

-- eventually waits long enough for elections on a busy machine.
local function eventually(what, fn) return wait_until(fn, {timeout = "90s", interval = "1s", desc = what}) end

-- Processes started here run until the end of the file.
n1:boot()
parallel({function() n2:boot() end, function() n3:boot() end})
local cluster = {}
for _, name in ipairs(names) do cluster[#cluster + 1] = ("%s=http://%s.db:2380"):format(name, name) end
for i, node in ipairs(nodes) do etcd.start(node, names[i], bridge:nic(node):ip(), cluster, "127.0.0.1") end

test("three nodes form a cluster", {slow = true, timeout = "4m"}, function(t)
  eventually("the first write", function() return put(n1, "who", "all") end)
  for _, node in ipairs(nodes) do
    eventually("a node has it", function() return knows(node, "who", "all") end)
  end
end)

test("the minority refuses writes, the majority goes on", {slow = true, timeout = "4m"}, function(t)
  bridge:partition(n3, n1)
  bridge:partition(n3, n2)
  eventually("a write of the majority", function() return put(n1, "who", "majority") end)
  eventually("the other one has it", function() return knows(n2, "who", "majority") end)
  t:assert(not put(n3, "lonely", "yes"), "a node on its own takes a write")
  t:assert(knows(n3, "who", "all"))
end)

test("after healing all agree", {slow = true, timeout = "4m"}, function(t)
  bridge:restore_all()
  eventually("the third one has it", function() return knows(n3, "who", "majority") end)
  eventually("a write of the third one", function() return put(n3, "who", "healed") end)
  for _, key in ipairs({"who", "lonely"}) do
    eventually("agreement on " .. key, function()
      local a, b, c = own(n1, key), own(n2, key), own(n3, key)
      return a and a == b and b == c
    end)
  end
  t:assert(knows(n1, "who", "healed"))
end)
