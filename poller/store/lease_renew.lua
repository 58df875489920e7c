-- Renew a lease, as long as nobody else took it, even after its end.
-- KEYS: lease. ARGV: holder, ttl (ms), fence. Gives 1 if it is still held, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'holder', 'fence')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[3] then
    return 0
end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + tonumber(ARGV[2])), 'ttl', ARGV[2])
return 1
