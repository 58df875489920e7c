-- Let events wait for a delivery that already had their turn: resent, replayed or brought back from the dead.
-- KEYS: place, waiting, tries, dead
-- ARGV: fence ("" from an operator), n, then for each of n fields of the place: its name, its value (""
--       deletes), what it is to be now ("*" for whatever it is); then for each event: any | dead, entry id,
--       score, record
-- Fields move together, or stay where one is not as it was: an operator has asked for something else since.
-- "dead" only moves what is still dead. Reply: FENCED, or the number of events that now wait.
local place, waiting, tries, dead = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if ARGV[1] ~= '' and tonumber(ARGV[1]) < held then
  return 'FENCED'
end
redis.call('ZCARD', waiting)
redis.call('HLEN', tries)
redis.call('ZCARD', dead)
local first = 3 + 3 * tonumber(ARGV[2])
local same = true
for i = 3, first - 1, 3 do
  same = same and (ARGV[i + 2] == '*' or (redis.call('HGET', place, ARGV[i]) or '') == ARGV[i + 2])
end
for i = 3, same and first - 1 or 0, 3 do
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
