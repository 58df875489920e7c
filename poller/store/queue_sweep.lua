-- Bury what was dead for long enough, and let the keys of an endpoint that nobody serves end by themselves.
-- KEYS: place, waiting, tries, dead
-- ARGV: fence, oldest time of death that is kept, most buried at once, seconds to live
-- Reply: FENCED, or the number buried.
local place, waiting, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if tonumber(ARGV[1]) < held then
  return 'FENCED'
end
local old = redis.call('ZRANGEBYSCORE', dead, '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(old) do
  redis.call('ZREM', dead, id)
  redis.call('HDEL', tries, id)
end
for _, key in ipairs({waiting, tries, dead}) do
  redis.call('EXPIRE', key, ARGV[4])
end
return #old
