-- Give a lease back, if it is still ours; the fence stays, for it must only grow.
-- KEYS: lease. ARGV: holder, fence. Gives 1 if it was ours, else 0.
local lease = redis.call('HMGET', KEYS[1], 'holder', 'fence')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then
    return 0
end
redis.call('HDEL', KEYS[1], 'holder', 'until', 'ttl')
return 1
