-- Find an endpoint's place in a source's stream, or make it, and note who holds it now.
-- KEYS: place, events   ARGV: fence, then "now" | "oldest", or where a place stood that is missing: cursor,
--                             ordinal, holes
-- Reply: FENCED, or the place's fields and values.
local place, events = KEYS[1], KEYS[2]
local fence = tonumber(ARGV[1])
local held = tonumber(redis.call('HGET', place, 'fence') or '0')
if fence < held then
  return 'FENCED'
end
local kind = redis.call('TYPE', events)['ok']
if not redis.call('HGET', place, 'cursor') then
  local cursor, ordinal, holes = '0-0', 0, ''
  if ARGV[3] then
    cursor, ordinal, holes = ARGV[2], ARGV[3], ARGV[4]
  elseif kind == 'stream' then
    local about = {}
    local flat = redis.call('XINFO', 'STREAM', events)
    for i = 1, #flat, 2 do
      about[flat[i]] = flat[i + 1]
    end
    if ARGV[2] == 'now' then
      cursor, ordinal = about['last-generated-id'], about['entries-added']
    else
      ordinal = about['entries-added'] - about['length']
    end
  end
  redis.call('HSET', place, 'cursor', cursor, 'ordinal', ordinal, 'holes', holes)
end
redis.call('HSET', place, 'fence', ARGV[1])
return redis.call('HGETALL', place)
