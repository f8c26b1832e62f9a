-- A real cluster on a network with faults: three nodes of etcd (see scripts/setup), of
-- which one is cut off and comes back.

local bridge = provium:bridge("db")
local nodes, names = {}, {"n1", "n2", "n3"}
for i, name in ipairs(names) do nodes[i] = provium:vm(name, "host", {memory = "512M"}) end
bridge:attach(nodes)
local n1, n2, n3 = nodes[1], nodes[2], nodes[3]

-- etcdctl queries the node that it runs on.
local function etcdctl(node, args)
  return node:run("etcdctl --command-timeout=15s --dial-timeout=15s " .. args, {env = {ETCDCTL_API = "3"}, timeout = "2m"})
end

local function put(node, key, value) return etcdctl(node, "put " .. key .. " " .. value):ok() end

-- own returns what a node itself knows, independent of the others, or nil without an answer.
local function own(node, key)
  local r = etcdctl(node, "get --consistency=s --print-value-only " .. key)
  return r:ok() and r.stdout or nil
end

-- eventually waits long enough for elections on a busy machine.
local function eventually(what, fn) return wait_until(fn, {timeout = "90s", interval = "200ms", desc = what}) end

-- Processes started here run until the end of the file.
n1:boot()
parallel({function() n2:boot() end, function() n3:boot() end})
local cluster = {}
for _, name in ipairs(names) do cluster[#cluster + 1] = ("%s=http://%s.db:2380"):format(name, name) end
for i, node in ipairs(nodes) do
  for _, file in ipairs({"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"}) do
    node:mkdir(file:match("(.*)/"), {parents = true})
    node:push_file(file, file, {perm = 493})
  end
  for _, program in ipairs({"etcd", "etcdctl"}) do
    node:push_file("../dist/etcd/usr/bin/" .. program, "/usr/bin/" .. program, {perm = 493})
  end
  local ip = bridge:nic(node):ip()
  local url = "http://" .. names[i] .. ".db"
  node:run_async(("exec etcd --name %s --data-dir /data --initial-cluster %s --heartbeat-interval 500 --election-timeout 5000"
    .. " --listen-peer-urls http://%s:2380 --initial-advertise-peer-urls %s:2380"
    .. " --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls %s:2379 >/etcd.log 2>&1")
    :format(names[i], table.concat(cluster, ","), ip, url, url))
end

test("three nodes form a cluster", {timeout = "4m"}, function(t)
  eventually("the first write", function() return put(n1, "who", "all") end)
  for _, node in ipairs(nodes) do
    eventually("a node has it", function() return own(node, "who") == "all\n" end)
  end
end)

test("the minority refuses writes, the majority goes on", {timeout = "4m"}, function(t)
  bridge:partition(n3, n1)
  bridge:partition(n3, n2)
  eventually("a write of the majority", function() return put(n1, "who", "majority") end)
  eventually("the other one has it", function() return own(n2, "who") == "majority\n" end)
  t:assert(not put(n3, "lonely", "yes"), "a node on its own takes a write")
  t:assert_eq(own(n3, "who"), "all\n")
end)

test("after healing all agree", {timeout = "4m"}, function(t)
  bridge:restore_all()
  eventually("the third one has it", function() return own(n3, "who") == "majority\n" end)
  eventually("a write of the third one", function() return put(n3, "who", "healed") end)
  for _, key in ipairs({"who", "lonely"}) do
    eventually("agreement on " .. key, function()
      local a, b, c = own(n1, key), own(n2, key), own(n3, key)
      return a and a == b and b == c
    end)
  end
  t:assert_eq(own(n1, "who"), "healed\n")
end)
