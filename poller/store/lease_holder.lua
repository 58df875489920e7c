-- Who holds a lease. KEYS: lease. Gives holder, until (ms), milliseconds left, fence; or nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until', 'fence')
local ends = tonumber(lease[2] or 0)
if not lease[1] or ends <= now then
    return false
end
return {lease[1], ends, ends - now, tonumber(lease[3])}
