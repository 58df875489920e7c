-- The outbox: fence, expected version, snapshot, stream and version move together, or not at all.
-- KEYS: lease, stream, head, further hashes.
-- ARGV: fence, version, commit id, state version; for each hash from head on: number of put items,
--       the items (field, value), number of dropped fields, the fields; then five values an event.
-- Lua does not roll back: everything that can fail is looked at before the first write.
local lease, stream, head = KEYS[1], KEYS[2], KEYS[3]

if (redis.call('HGET', lease, 'fence') or '0') ~= ARGV[1] then
  return 'FENCED'
end
if redis.call('HGET', head, 'commit') == ARGV[3] then
  redis.call('HSET', head, 'commit', ARGV[3]) -- a write, so that WAITAOF has something to wait for
  return 'DUPLICATE'
end
if (redis.call('HGET', head, 'version') or '0') ~= ARGV[2] then
  return 'CONFLICT'
end
local found = redis.call('TYPE', stream).ok
if found ~= 'stream' and found ~= 'none' then
  return stream
end
for i = 3, #KEYS do
  found = redis.call('TYPE', KEYS[i]).ok
  if found ~= 'hash' and found ~= 'none' then
    return KEYS[i]
  end
end

-- The first write is one that a full server refuses, so that nothing is half done.
redis.call('HSET', head, 'version', ARGV[2] + 1, 'commit', ARGV[3], 'state', ARGV[4])

local function each(command, key, from, count, step)
  for at = from, from + count - 1, step do
    redis.call(command, key, unpack(ARGV, at, math.min(at + step, from + count) - 1))
  end
end

local at = 5
for i = 3, #KEYS do
  local puts = tonumber(ARGV[at])
  each('HSET', KEYS[i], at + 1, puts, 1000)
  at = at + 1 + puts
  local drops = tonumber(ARGV[at])
  each('HDEL', KEYS[i], at + 1, drops, 1000)
  at = at + 1 + drops
end
for e = at, #ARGV, 5 do
  redis.call('XADD', stream, '*', 'id', ARGV[e], 'type', ARGV[e + 1], 'subject', ARGV[e + 2],
    'time', ARGV[e + 3], 'event', ARGV[e + 4])
end
return 'OK'
