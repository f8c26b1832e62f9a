return {loud = function(s) return s:upper() end}
