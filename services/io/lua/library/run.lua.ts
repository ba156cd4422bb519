/** Lua part 6: running one file, within a time limit. */
export const RUN = `
local host = lib.host
local getinfo, sethook, traceback = debug.getinfo, debug.sethook, debug.traceback
function debug.sethook() lib.fail("'sethook' is not available here: it is what limits the time of a script") end
local EVERY = 100000 -- instructions between two looks at the clock

-- Once the time is over the hook comes at every instruction, so that no pcall of the script survives it.
local function check_time()
  if host("in_time", "") then return end
  sethook(function()
    if getinfo(2, "S").source:sub(1, 1) ~= "@" then return end
    lib.fail("the script does not come to an end: stopped after %s s", (lib.ask("time_limit")))
  end, "", 1)
end

function lib.run_file(source, name)
  local chunk, message = load(source, "@" .. name, "t")
  if not chunk then
    host("outcome", "", "syntax", message)
    return
  end
  sethook(check_time, "", EVERY)
  local ok, failure = xpcall(chunk, function(problem)
    host("trace", "", traceback(tostring(problem), 2))
    return problem
  end)
  sethook()
  host("outcome", "", ok and "ok" or "error", ok and "" or tostring(failure))
end
`;
