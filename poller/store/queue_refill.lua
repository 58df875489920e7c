-- Let events wait for a delivery that already had their turn: resent, replayed or brought back from the dead.
-- KEYS: place, waiting, tries, dead
-- ARGV: fence ("" from an operator), n, then n pairs of field and value of the place ("" deletes),
--       then for each event: any | dead, entry id, score, record
-- "dead" only moves what is still dead. Reply: FENCED, or the number of events that now wait.
local place, waiting, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if ARGV[1] ~= '' and tonumber(ARGV[1]) < held then
  return 'FENCED'
end
redis.call('ZCARD', waiting)
redis.call('HLEN', tries)
redis.call('ZCARD', dead)
local first = 3 + 2 * tonumber(ARGV[2])
for i = 3, first - 1, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', place, ARGV[i])
  else
    redis.call('HSET', place, ARGV[i], ARGV[i + 1])
  end
end
local moved = 0
for i = first, #ARGV, 4 do
  local id = ARGV[i + 1]
  if redis.call('ZREM', dead, id) == 1 or ARGV[i] == 'any' then
    redis.call('ZADD', waiting, ARGV[i + 2], id)
    redis.call('HSET', tries, id, ARGV[i + 3])
    moved = moved + 1
  end
end
return moved
