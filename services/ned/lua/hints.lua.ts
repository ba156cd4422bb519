/** Lua part 8: what to add to an error message that people often meet. */
export const HINTS = `
local ned = ...

local function env_names()
  local names = {}
  for name in next, ned.Env do names[#names + 1] = name end
  table.sort(names)
  return table.concat(names, ", ")
end

local ABSENT = { math = true, os = true, coroutine = true, utf8 = true }

-- { pattern, hint or function of the captures }
local KNOWN = {
  { "global 'L4'", 'L4 is not a global; start the script with: local L4 = require("L4")' },
  { "global '(%w+)'", function(name)
    if ABSENT[name] then return "ned has no library '" .. name .. "'; it has base, package, table, io, string and debug" end
  end },
  { "module '([^']+)' not found", function(name)
    if ABSENT[name] then return "ned has no library '" .. name .. "'; it has base, package, table, io, string and debug" end
    return 'Lua files of rom are found after: package.path = "rom/?.lua"'
  end },
  { "attempt to index a nil value %(field '([%w_]+)'%)", function(name)
    return "if this is L4.Env." .. name .. ": ned was not given such a capability; it has " .. env_names()
  end },
  { "attempt to call a nil value %(method 'create'%)", "the object is no factory: its server offers no create()" },
  { "attempt to call a nil value %(method '([%w_]+)'%)", function(name)
    return "the object on the left has no method '" .. name .. "'"
  end },
  { "'[})]' expected", "a comma or semicolon may be missing between two entries" },
  { "cannot open ([^/:]+):", function(name)
    return "names of files begin with a capability: 'rom/" .. name .. "'"
  end },
  { "error object is a table value", "error() got a table; with a field msg, or with __tostring, its text would be shown here" },
  { "unexpected symbol near", "a value, a comma or a closing bracket may be missing just before" },
}

function ned.hint(message)
  for _, known in ipairs(KNOWN) do
    local capture = message:match(known[1])
    if capture then
      if type(known[2]) == "string" then return known[2] end
      local text = known[2](capture)
      if text then return text end
    end
  end
  return nil
end
`;
