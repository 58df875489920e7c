-- Keep how an endpoint fares, unless a newer holder or an order that was not yet read is there.
-- KEYS: state   ARGV: fence, turn that was obeyed, health, notices
-- Reply: OK, FENCED or MOVED.
local state = KEYS[1]
if tonumber(ARGV[1]) < tonumber(redis.call('HGET', state, 'fence') or '0') then
  return 'FENCED'
end
if tonumber(ARGV[2]) ~= tonumber(redis.call('HGET', state, 'turn') or '0') then
  return 'MOVED'
end
redis.call('HSET', state, 'fence', ARGV[1], 'health', ARGV[3], 'notices', ARGV[4], 'obeyed', ARGV[2])
redis.call('HDEL', state, 'want', 'skip')
return 'OK'
