-- Say that a replica is alive and what it can take; forget those that fell silent.
-- KEYS: replicas. ARGV: replica, lifetime (ms), what it can take. Gives replica, units, ... of the living.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lifetime = tonumber(ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
local living = {ARGV[1], ARGV[3]}
for i = 1, #all, 2 do
    local at, units = string.match(all[i + 1], '^(%d+) (.*)$')
    local silent = at == nil or math.abs(now - tonumber(at)) > lifetime
    if silent then
        redis.call('HDEL', KEYS[1], all[i])
    elseif all[i] ~= ARGV[1] then
        living[#living + 1] = all[i]
        living[#living + 1] = units
    end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[3])
return living
