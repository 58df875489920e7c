-- One event of a subject that has no snapshot, once: nothing moves unless its place is as it was read.
-- KEYS: hash of subjects, stream. ARGV: subject, what was read ('' for nothing), what is to stand there,
--       then the five values of the event.
local found = redis.call('TYPE', KEYS[2]).ok
if found ~= 'stream' and found ~= 'none' then
  return 'WRONGTYPE'
end
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return 'CONFLICT'
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('XADD', KEYS[2], '*', 'id', ARGV[4], 'type', ARGV[5], 'subject', ARGV[6], 'time', ARGV[7],
  'event', ARGV[8])
return 'OK'
