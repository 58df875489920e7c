-- Settle attempts: outcome, next attempt and acknowledgement at once, under the holder's fence.
-- KEYS: place, waiting, tries, dead
-- ARGV: fence, batch id, the batch it builds on ("" for none), cursor, ordinal, holes, n, then n pairs of
--       counter and increment, then for each event: done | wait | dead, entry id, score, record
-- Reply: OK, DONE (this batch was settled before), FENCED, or LOST: the batch before it is not there, so
--        going on would pass over what the server forgot; GONE where the whole place is not.
local place, waiting, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if tonumber(ARGV[1]) < held then
  return 'FENCED'
end
local last = redis.call('HGET', place, 'batch') or ''
if last == ARGV[2] then
  return 'DONE'
end
if last ~= ARGV[3] then
  return redis.call('HEXISTS', place, 'cursor') == 1 and 'LOST' or 'GONE'
end
-- Nothing is rolled back: whatever could fail has to fail before the first write.
redis.call('ZCARD', waiting)
redis.call('HLEN', tries)
redis.call('ZCARD', dead)
local first = 8 + 2 * tonumber(ARGV[7])
redis.call('HSET', place, 'fence', ARGV[1], 'batch', ARGV[2],
  'cursor', ARGV[4], 'ordinal', ARGV[5], 'holes', ARGV[6])
for i = 8, first - 1, 2 do
  redis.call('HINCRBY', place, ARGV[i], ARGV[i + 1])
end
for i = first, #ARGV, 4 do
  local what, id = ARGV[i], ARGV[i + 1]
  if what == 'done' then
    redis.call('ZREM', waiting, id)
    redis.call('ZREM', dead, id)
    redis.call('HDEL', tries, id)
  elseif what == 'wait' then
    redis.call('ZADD', waiting, ARGV[i + 2], id)
    redis.call('HSET', tries, id, ARGV[i + 3])
  else
    redis.call('ZREM', waiting, id)
    redis.call('ZADD', dead, ARGV[i + 2], id)
    redis.call('HSET', tries, id, ARGV[i + 3])
  end
end
return 'OK'
