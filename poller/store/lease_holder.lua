-- Who holds a lease. KEYS: lease. Gives its name, or nothing.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until')
if not lease[1] or tonumber(lease[2] or 0) <= now then
    return false
end
return lease[1]
