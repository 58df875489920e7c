-- Bury what was dead for long enough, and let the keys of an endpoint that nobody serves end by themselves.
-- KEYS: place, waiting, tries, dead
-- ARGV: fence, oldest time of death that is kept, most dead letters, most buried at once, seconds to live
-- Reply: FENCED, or the number buried.
local place, waiting, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if tonumber(ARGV[1]) < held then
  return 'FENCED'
end
local most = tonumber(ARGV[4])
local old = redis.call('ZRANGEBYSCORE', dead, '-inf', ARGV[2], 'LIMIT', 0, most)
local over = redis.call('ZCARD', dead) - tonumber(ARGV[3])
if over > #old then
  old = redis.call('ZRANGE', dead, 0, math.min(over, most) - 1)
end
for _, id in ipairs(old) do
  redis.call('ZREM', dead, id)
  redis.call('HDEL', tries, id)
end
for _, key in ipairs({waiting, tries, dead}) do
  redis.call('EXPIRE', key, ARGV[5])
end
return #old
