-- What tests of etcd have in common (see scripts/setup).
local M = {}

-- base64 is the form of keys and values in etcd's JSON.
function M.base64(text)
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
function M.call(node, method, message)
  local r = node:run("wget", {args = {"-q", "-O", "-", "--post-data", json.encode(message),
    "http://127.0.0.1:2379/v3/kv/" .. method}, timeout = "2m"})
  return r:ok() and json.decode(r.stdout) or nil
end

function M.put(node, key, value)
  return M.call(node, "put", {key = M.base64(key), value = M.base64(value)}) ~= nil
end

-- start runs etcd on a node that is reached by a name and an address, as one of a cluster.
-- `clients` is the address that it serves clients on.
function M.start(node, name, ip, cluster, clients)
  for _, file in ipairs({"/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"}) do
    node:mkdir(file:match("(.*)/"), {parents = true})
    node:push_file(file, file, {perm = 493})
  end
  node:push_file("../../dist/etcd/usr/bin/etcd", "/usr/bin/etcd", {perm = 493})
  local url = "http://" .. name .. ".db"
  return node:run_async(("exec etcd --name %s --data-dir /data --initial-cluster %s --heartbeat-interval 500 --election-timeout 5000"
    .. " --listen-peer-urls http://%s:2380 --initial-advertise-peer-urls %s:2380"
    .. " --listen-client-urls http://%s:2379 --advertise-client-urls %s:2379 >/etcd.log 2>&1")
    :format(name, table.concat(cluster, ","), ip, url, clients, url))
end

return M
