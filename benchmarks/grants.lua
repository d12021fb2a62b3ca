-- For wrk with one thread: creates an ID and registers its first node, again and again; a registration is sent as soon
-- as an ID is known. At the end one line of JSON is printed, in which a request is a grant: a creation and a
-- registration.

local ids = {}
local number = 0
local refused = 0

local function register(id)
   number = number + 1
   local body = string.format('{"addr":"10.%d.%d.%d:4001"}',
      math.floor(number / 65536) % 256, math.floor(number / 256) % 256, number % 256)
   return wrk.format("POST", "/" .. id, {["Content-Type"] = "application/json"}, body)
end

function request()
   local id = table.remove(ids)
   if id then
      return register(id)
   end
   return wrk.format("POST", "/")
end

function response(status, headers, body)
   if status ~= 200 then
      refused = refused + 1
   elseif body:find('"nodes":%s*%[%]') then
      ids[#ids + 1] = body:match('"disco_id":%s*"([^"]+)"')
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"refused":%d,"repeated":%d,"failed":%d}\n',
      math.floor(summary.requests / 2), summary.duration / 1e6, latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3, refused, 0, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
