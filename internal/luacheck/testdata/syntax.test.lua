local x = 1
local = 2 --> <name> expected near '='
