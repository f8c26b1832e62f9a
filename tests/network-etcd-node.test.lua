-- One node of etcd, a server of others, and a client that is cut off from it and comes back.
-- What every day has no time for, a cluster of three, is in network-etcd.
local etcd = require("setups.etcd")

test("a server that another guest uses is cut off and comes back", {timeout = "4m"}, function(t)
  local node, client = provium:vm("n1", "host"), provium:vm("client", "host")
  local bridge = provium:bridge("db")
  bridge:attach({node, client})
  provium:boot()
  etcd.start(node, "n1", bridge:nic(node):ip(), {"n1=http://n1.db:2380"}, "0.0.0.0")
  wait_until(function() return etcd.put(node, "who", "all") end,
    {timeout = "90s", interval = "1s", desc = "the first write"})
  local function read(limit)
    return client:run("wget", {args = {"-q", "-O", "-", "--post-data", json.encode({key = etcd.base64("who")}),
      "http://n1.db:2379/v3/kv/range"}, timeout = limit})
  end
  local function value() return json.decode(read("1m"):assert_ok().stdout).kvs[1].value end
  t:assert_eq(value(), etcd.base64("all"))
  bridge:partition(node, client)
  t:assert(not read("2s"):ok(), "the partition lets it through")
  t:assert(etcd.put(node, "who", "alone"), "the node does not write")
  bridge:restore_all()
  t:assert_eq(value(), etcd.base64("alone"))
end)
