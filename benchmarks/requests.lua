-- For wrk with one thread: sends the requests in the file that the first argument names, in order.
-- The file holds whole requests, each ended by a NUL. With "once" as the second argument no request may be sent twice.
-- At the end one line of JSON is printed.

local requests = {}
local following
local once = false
local repeated = 0
local refused = 0

function init(args)
   local file = assert(io.open(args[1], "rb"))
   for request in file:read("*a"):gmatch("[^%z]+") do
      requests[#requests + 1] = request
   end
   file:close()
   once = args[2] == "once"
end

function request()
   if following == nil then
      -- wrk asks for one that it looks at, and does not send.
      following = 0
      return requests[1]
   end
   if following == #requests then
      following = 0
      if once then
         repeated = repeated + 1
      end
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
   io.write(string.format(
      '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"repeated":%d,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      refused, repeated, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
