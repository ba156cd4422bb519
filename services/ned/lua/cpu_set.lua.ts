/** Lua part 3: `L4.Cpu_set` (l4re-facts.md 1.10). */
export const CPU_SET = String.raw`
local ned = ...
local WORD_BITS = 64
local MAX_CPU = 4095

local Cpu_set = {}
Cpu_set.__index = Cpu_set
ned.Cpu_set = Cpu_set

local function number_of(cpu)
  local n = ned.tointeger(cpu)
  if not n or n < 0 or n > MAX_CPU then ned.fail("Invalid CPU range %q", tostring(cpu)) end
  return n
end

-- Marks what x names: a number, "a-b", "n", another set, or a table of those.
local function mark(set, x)
  local kind = type(x)
  if kind == "number" then
    set.cpus[number_of(x)] = true
  elseif kind == "string" then
    local first, last = x:match("^%s*(%d+)%s*%-%s*(%d+)%s*$")
    if not first then
      first = x:match("^%s*(%d+)%s*$")
      last = first
    end
    first, last = ned.tointeger(tonumber(first)), ned.tointeger(tonumber(last))
    if not first or last < first or last > MAX_CPU then ned.fail("Invalid CPU range \"%s\"", x) end
    for cpu = first, last do set.cpus[cpu] = true end
  elseif kind == "table" then
    if getmetatable(x) == Cpu_set then
      if x.all then set.all = true end
      for cpu in pairs(x.cpus) do set.cpus[cpu] = true end
    else
      for _, entry in ipairs(x) do mark(set, entry) end
    end
  else
    ned.fail("Invalid argument type: %s", kind)
  end
end

function Cpu_set:new(x)
  local set = setmetatable({ cpus = {}, all = false }, Cpu_set)
  if x == nil then set.all = true else mark(set, x) end
  return set
end

function Cpu_set:add(x)
  mark(self, x)
  return self
end

local function as_set(x)
  if type(x) == "table" and getmetatable(x) == Cpu_set then return x end
  return Cpu_set:new(x == nil and {} or x)
end

Cpu_set.__bor = function(a, b)
  local set = Cpu_set:new({})
  mark(set, as_set(a))
  mark(set, as_set(b))
  return set
end

Cpu_set.__band = function(a, b)
  a, b = as_set(a), as_set(b)
  if a.all then return Cpu_set:new({}):add(b) end
  if b.all then return Cpu_set:new({}):add(a) end
  local set = Cpu_set:new({})
  for cpu in pairs(a.cpus) do set.cpus[cpu] = b.cpus[cpu] end
  return set
end

local function sorted(set)
  local list = {}
  for cpu in pairs(set.cpus) do list[#list + 1] = cpu end
  table.sort(list)
  return list
end

Cpu_set.__tostring = function(set)
  if set.all then return "{ all }" end
  return "{" .. table.concat(sorted(set), ", ") .. "}"
end

-- Mask words for a scheduler proxy; none for all CPUs.
function Cpu_set:factory_args()
  if self.all then return end
  local words, list = {}, sorted(self)
  for i = 0, (list[#list] or 0) // WORD_BITS do words[i + 1] = 0 end
  for _, cpu in ipairs(list) do
    local word = cpu // WORD_BITS + 1
    words[word] = words[word] | 1 << cpu % WORD_BITS
  end
  return table.unpack(words)
end
`;
