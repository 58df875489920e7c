-- Take a lease that is free, or renew one's own.
-- KEYS: lease. ARGV: holder, ttl (ms). Gives the fence, or nothing where another holds it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ttl = tonumber(ARGV[2])
local lease = redis.call('HMGET', KEYS[1], 'holder', 'until', 'ttl', 'fence')
local holder, ends, span = lease[1], tonumber(lease[2] or 0), tonumber(lease[3] or 0)
local fence = tonumber(lease[4] or 0)

if holder and holder ~= ARGV[1] and ends > now then
    if ends - now > span then
        -- The server's clock went back. Without this a dead holder would keep it for all that time.
        redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + span))
    end
    return false
end
if holder ~= ARGV[1] then
    -- Never below the clock: a fence that was given and then lost with the AOF's tail is not given again.
    fence = math.max(fence + 1, now)
end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', string.format('%.0f', now + ttl),
    'ttl', ARGV[2], 'fence', string.format('%.0f', fence))
return fence
