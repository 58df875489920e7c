-- Drop the entries of a stream that are older than so many ms, by the clock that gave them their ids.
-- KEYS: stream. ARGV: ms. Reply: how many went.
local time = redis.call('TIME')
local before = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[1])
return redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f-0', math.max(0, before)))
