-- A web server that is up and has something to serve. It is built once, and again
-- when this file, page.html or the profile has changed.
local vm = provium:vm("web", "host"):boot()
vm:push_file("page.html", "/srv/index.html")
vm:run("httpd -p 80 -h /srv"):assert_ok()
wait_until(function() return vm:run("wget -q -O /dev/null http://127.0.0.1/"):ok() end)
return vm:snapshot()
