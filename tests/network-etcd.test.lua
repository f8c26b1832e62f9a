-- A real cluster on a network with faults: three nodes of etcd (see scripts/setup), of
-- which one is cut off and comes back.

local bridge = provium:bridge("db")
local nodes, names = {}, {"n1", "n2", "n3"}
for i, name in ipairs(names) do nodes[i] = provium:vm(name, "host", {memory = "512M"}) end
bridge:attach(nodes)
local n1, n2, n3 = nodes[1], nodes[2], nodes[3]

-- base64 is the form of keys and values in etcd's JSON.
local function base64(text)
  local letters, out = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", {}
  for i = 1, #text, 3 do
    local n = string.unpack(">I3", text:sub(i, i + 2) .. ("\0"):rep(i + 2 - #text))
    for at = 18, 0, -6 do
      local letter = (n >> at & 63) + 1
      out[#out + 1] = i + 2 - at // 6 > #text and "=" or letters:sub(letter, letter)
    end
  end
  return table.concat(out)
end

-- call queries the node that it runs on, and returns nil if that refuses. etcd's own program
-- would take seconds to start in an emulated guest.
local function call(node, method, message)
  local r = node:run("wget", {args = {"-q", "-O", "-", "--post-data", json.encode(message),
    "http://127.0.0.1:2379/v3/kv/" .. method}, timeout = "2m"})
  return r:ok() and json.decode(r.stdout) or nil
end

local function put(node, key, value)
  return call(node, "put", {key = base64(key), value = base64(value)}) ~= nil
end

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
for i, node in ipairs(nodes) do
  for _, file in ipairs({"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"}) do
    node:mkdir(file:match("(.*)/"), {parents = true})
    node:push_file(file, file, {perm = 493})
  end
  node:push_file("../dist/etcd/usr/bin/etcd", "/usr/bin/etcd", {perm = 493})
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
    eventually("a node has it", function() return knows(node, "who", "all") end)
  end
end)

test("the minority refuses writes, the majority goes on", {timeout = "4m"}, function(t)
  bridge:partition(n3, n1)
  bridge:partition(n3, n2)
  eventually("a write of the majority", function() return put(n1, "who", "majority") end)
  eventually("the other one has it", function() return knows(n2, "who", "majority") end)
  t:assert(not put(n3, "lonely", "yes"), "a node on its own takes a write")
  t:assert(knows(n3, "who", "all"))
end)

test("after healing all agree", {timeout = "4m"}, function(t)
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
