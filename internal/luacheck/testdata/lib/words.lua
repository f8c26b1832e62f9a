from_module = 1
HELPER = true
local t = nosuch --> unknown variable `nosuch`
return {thing = t}
