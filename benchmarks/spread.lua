-- For wrk with one thread for each server: sends the requests of each server to it, in order, and none of them twice.
-- The arguments are the host, the port and the file of requests of each server; see requests.lua for the file.
-- At the end one line of JSON is printed.

local threads = {}

local requests = {}
local following
-- `done` reads these of each thread, so they are not local.
repeated = 0
refused = 0

function setup(thread)
   thread:set("number", #threads)
   threads[#threads + 1] = thread
end

function init(args)
   local first = 3 * number + 1
   wrk.thread.addr = assert(wrk.lookup(args[first], args[first + 1])[1])
   local file = assert(io.open(args[first + 2], "rb"))
   for request in file:read("*a"):gmatch("[^%z]+") do
      requests[#requests + 1] = request
   end
   file:close()
end

function request()
   if following == nil then
      -- wrk asks for one that it looks at, and does not send.
      following = 0
      return requests[1]
   end
   if following == #requests then
      following = 0
      repeated = repeated + 1
   end
   following = following + 1
   return requests[following]
end

function response(status)
   if status ~= 200 then
      refused = refused + 1
   end
end

function done(summary, latency)
   local errors = summary.errors
   local all_refused, all_repeated = 0, 0
   for _, thread in ipairs(threads) do
      all_refused = all_refused + thread:get("refused")
      all_repeated = all_repeated + thread:get("repeated")
   end
   io.write(string.format(
      '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"repeated":%d,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      all_refused, all_repeated, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
