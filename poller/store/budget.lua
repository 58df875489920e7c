-- The budget of one host as seen from one address: block-until, then a sliding log, on Redis TIME.
--
-- KEYS: log, state. ARGV: operation, what the asker takes TIME to be (ms; 0: it cannot tell), then what that
--   needs (see budget.py). Reply: what came of it, and TIME.
-- log: sorted set; member token/index/class/cost, score = the last moment (ms) at which that request
--   can reach the host: its deadline, then its answer. It counts for one window longer than that.
-- state: hash; rule:SOURCE = limit, window, when named; payer:PROCESS = how many takes, when; claim:SOURCE:
--   CLASS = since when, how many units, until when; units = class, how many, … of all that is in the log, so
--   that nobody adds it up; until, shut, probe, streak, opened, factor, lowered: the block.

local RULE_LIFE = 3600000
local STATE_LIFE = 86400000
local KEEP_PLACE = 7000
local RESERVE = 0.05
local LOWER = 0.8
local RECOVER = 1.05
local LONGEST_BLOCK = 1800000
local UNDER_WAY = 2000

local log, state = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local entries_now = redis.call('ZCARD', log) -- a key of another type fails here, before the first write

local has = {}
local raw = redis.call('HGETALL', state)
for i = 1, #raw, 2 do
    has[raw[i]] = raw[i + 1]
end

local function num(field)
    return tonumber(has[field] or 0)
end

local function whole(number)
    return string.format('%.0f', number)
end

local function set(field, value)
    value = tostring(value)
    has[field] = value
    redis.call('HSET', state, field, value)
end

local function drop(field)
    has[field] = nil
    redis.call('HDEL', state, field)
end

local function words(text)
    local out = {}
    for word in string.gmatch(text, '%S+') do
        out[#out + 1] = word
    end
    return out
end

local function cost_of(member)
    return tonumber(string.match(member, '/(%d+)$'))
end

local function by_class(members)
    local sums = {}
    for _, member in ipairs(members) do
        local class = string.match(member, '/(%l+)/%d+$')
        sums[class] = (sums[class] or 0) + cost_of(member)
    end
    return sums
end

-- Units of all that is in the log, by class.
local function charged()
    if not has.units then
        return by_class(redis.call('ZRANGE', log, 0, -1))
    end
    local sums, kept = {}, words(has.units)
    for i = 1, #kept, 2 do
        sums[kept[i]] = tonumber(kept[i + 1])
    end
    return sums
end

local function keep_charged(sums)
    local out = {}
    for class, units in pairs(sums) do
        if units > 0 then
            out[#out + 1] = class .. ' ' .. whole(units)
        end
    end
    set('units', table.concat(out, ' '))
end

-- Add to what is in the log, or take from it.
local function charge(units, sign)
    local sums = charged()
    for class, count in pairs(units) do
        sums[class] = (sums[class] or 0) + sign * count
    end
    keep_charged(sums)
end

-- Forget what left the longest window.
local function purge(longest)
    local before = whole(now - longest)
    local gone = redis.call('ZRANGEBYSCORE', log, '-inf', before)
    if #gone == 0 then
        return
    end
    redis.call('ZREMRANGEBYSCORE', log, '-inf', before)
    charge(by_class(gone), -1)
end

-- The server's clock was set: move everything with it. Where it went back the host would be left alone for that
-- long; where it went forth nothing that was just sent would count, and no block would hold.
local function follow_clock(expected)
    local ahead = num('now') - now
    if ahead < 0 and expected > 0 then
        ahead = math.min(0, math.max(num('now'), expected) - now)
    end
    if ahead > 1000 or (expected > 0 and ahead < -UNDER_WAY) then
        local entries = redis.call('ZRANGE', log, 0, -1, 'WITHSCORES')
        for i = 1, #entries, 2 do
            redis.call('ZADD', log, whole(tonumber(entries[i + 1]) - ahead), entries[i])
        end
        for _, field in ipairs({'until', 'probe_until', 'opened', 'lowered'}) do
            if has[field] then
                set(field, whole(num(field) - ahead))
            end
        end
        for field, value in pairs(has) do
            if string.sub(field, 1, 6) == 'claim:' then
                redis.call('HDEL', state, field)
                has[field] = nil
            elseif string.sub(field, 1, 5) == 'rule:' then
                local rule = words(value)
                set(field, table.concat({rule[1], rule[2], whole(now)}, ' '))
            elseif string.sub(field, 1, 6) == 'payer:' then
                set(field, table.concat({words(value)[1], whole(now)}, ' '))
            end
        end
    end
    if num('now') ~= now then
        set('now', whole(now))
    end
    if redis.call('PTTL', state) < 0 then
        redis.call('PEXPIRE', state, STATE_LIFE)
    end
end

-- What each source named: {limit, window}; those not heard of for an hour no longer hold.
local function rules_alive()
    local rules, longest = {}, 0
    for field, value in pairs(has) do
        if string.sub(field, 1, 5) == 'rule:' then
            local rule = words(value)
            local window = tonumber(rule[2])
            if now - tonumber(rule[3]) <= math.max(RULE_LIFE, 2 * window) then
                rules[#rules + 1] = {limit = tonumber(rule[1]), window = window}
                longest = math.max(longest, window)
            else
                drop(field)
            end
        end
    end
    return rules, longest
end

-- Forget processes that have not paid for so long that nothing of theirs counts any more.
local function forget_payers(longest)
    for field, value in pairs(has) do
        if string.sub(field, 1, 6) == 'payer:' and now - tonumber(words(value)[2]) > RULE_LIFE + 2 * longest then
            drop(field)
        end
    end
end

local function factor(window)
    if not has.factor then
        return 1
    end
    local windows = math.floor(math.max(0, now - num('lowered')) / window)
    return math.min(1, num('factor') * RECOVER ^ windows)
end

-- After a probe: a quarter at once, then a quarter more every quarter of a window.
local function ramp(window)
    if not has.opened then
        return 1
    end
    return math.min(1, 0.25 * (1 + math.floor((now - num('opened')) / (window / 4))))
end

-- How many units a class may have in one window. `cost` always fits, or one request could wait for ever.
local function cap(rule, class, cost, part)
    local most = math.max(1, math.floor(rule.limit * factor(rule.window) * part + 1e-9))
    if class == 'sweep' or class == 'detail' then
        most = most - math.min(most - 1, math.ceil(most * RESERVE))
    end
    return math.min(rule.limit, math.max(most, cost))
end

-- Units that count in a window, by class: all but what has left it.
local function used_by_class(window)
    local sums = charged()
    local gone = redis.call('ZRANGEBYSCORE', log, '-inf', whole(now - window))
    for class, units in pairs(by_class(gone)) do
        sums[class] = sums[class] - units
    end
    return sums
end

local function used(window)
    local sum = 0
    for _, units in pairs(used_by_class(window)) do
        sum = sum + units
    end
    return sum
end

-- In how many ms `units` will have left the log, if what is on its way is answered now.
local function until_freed(window, units)
    local from, after = 0, '(' .. whole(now - window)
    while true do
        local entries = redis.call('ZRANGEBYSCORE', log, after, '+inf', 'WITHSCORES', 'LIMIT', from, 50)
        if #entries == 0 then
            return window
        end
        for i = 1, #entries, 2 do
            units = units - cost_of(entries[i])
            if units <= 0 then
                return math.min(tonumber(entries[i + 1]), now) + window - now + 1
            end
        end
        from = from + 50
    end
end

local function keep(longest, deadline)
    redis.call('PEXPIRE', state, whole(math.max(STATE_LIFE, 2 * longest) + math.max(0, num('until') - now)))
    local life = math.max(STATE_LIFE, deadline + longest + 60000)
    if redis.call('PTTL', log) < life then
        redis.call('PEXPIRE', log, whole(life))
    end
end

local function name_rule(source, limit, window)
    set('rule:' .. source, table.concat({limit, window, whole(now)}, ' '))
end

local function takes_of(who)
    local payer = has['payer:' .. who]
    return payer and tonumber(words(payer)[1]) or 0
end

local function note_takes(who, takes)
    set('payer:' .. who, table.concat({takes, whole(now)}, ' '))
end

-- Units that others have waited for longer than `mine`.
local function claimed_before(mine, class)
    local since = has[mine] and tonumber(words(has[mine])[1]) or now
    local sum = 0
    for field, value in pairs(has) do
        if string.sub(field, 1, 6) == 'claim:' and field ~= mine then
            local claim = words(value)
            local other = string.match(field, ':(%l+)$')
            local at = tonumber(claim[1])
            local first = at < since or (at == since and field < mine)
            if tonumber(claim[3]) < now then
                drop(field)
            elseif first and (class ~= 'confirm' or other == 'confirm') then
                sum = sum + tonumber(claim[2])
            end
        end
    end
    return sum
end

local function claim(mine, units)
    local since = has[mine] and words(has[mine])[1] or whole(now)
    set(mine, table.concat({since, units, whole(now + KEEP_PLACE)}, ' '))
end

local function take(source, limit, window, class, n, cost, deadline, token, who, takes)
    if takes_of(who) < takes then
        return {'lost'}
    end
    name_rule(source, limit, window)
    local rules, longest = rules_alive()
    purge(longest)
    keep(longest, 0)
    for _, each in ipairs(rules) do
        if cost > each.limit then
            return {'never', each.limit}
        end
    end
    if now < num('until') then
        return {'wait', num('until') - now, 1}
    end

    local probing = has.shut == '1'
    if probing then
        if has.probe and now < num('probe_until') then
            return {'wait', math.min(1000, num('probe_until') - now), 1}
        end
        n, class = 1, 'probe'
    end
    for _, each in ipairs(rules) do
        n = math.min(n, math.max(1, math.floor(cap(each, class, cost, 1) / cost)))
    end
    local need = n * cost
    local mine = 'claim:' .. source .. ':' .. class
    local ahead = probing and 0 or claimed_before(mine, class)
    local wait, queue = 0, true
    for _, each in ipairs(rules) do
        local part = probing and 1 or ramp(each.window)
        local most = cap(each, class, cost, part)
        local over = used(each.window) + ahead + need - most
        if need > most then
            queue = false
            local step = each.window / 4
            wait = math.max(wait, math.ceil(step - (now - num('opened')) % step))
        elseif over > 0 then
            wait = math.max(wait, until_freed(each.window, over))
        end
    end
    if wait > 0 then
        if queue and not probing then
            claim(mine, need)
        end
        return {'wait', wait, 0}
    end

    local added = 0 -- a take whose reply was lost is asked again: what is there already is charged
    for i = 0, n - 1 do
        local member = token .. '/' .. i .. '/' .. class .. '/' .. cost
        added = added + redis.call('ZADD', log, whole(now + deadline), member)
    end
    charge({[class] = added * cost}, 1)
    keep(longest, deadline)
    forget_payers(longest)
    if has[mine] then
        drop(mine)
    end
    if probing then
        set('probe', token)
        set('probe_until', whole(now + deadline))
    end
    takes = math.max(takes, takes_of(who)) + 1
    note_takes(who, takes)
    return {'grant', n, class, probing and 1 or 0, takes}
end

local function blocked_for()
    return math.max(0, num('until') - now)
end

local function settle(token, members)
    for _, member in ipairs(members) do
        local score = redis.call('ZSCORE', log, member)
        if score and tonumber(score) > now + 1 then
            redis.call('ZADD', log, whole(now + 1), member)
        end
    end
    if has.probe == token then
        drop('probe')
    end
    return blocked_for()
end

-- A charge that the server forgot (the tail of its AOF) counts again, a whole window from now.
local function restore(longest, members)
    local added = {}
    for _, member in ipairs(members) do
        if redis.call('ZADD', log, 'NX', whole(now), member) == 1 then
            added[#added + 1] = member
        end
    end
    charge(by_class(added), 1)
    keep(longest, 0)
    return #members
end

local function block(ms)
    set('blocked_ms', whole(num('blocked_ms') + now + ms - math.max(now, num('until'))))
    set('until', whole(now + ms))
end

local function refuse(window, status, given, date, token)
    set('refusals', num('refusals') + 1)
    if now < num('until') then
        if given and now + given > num('until') then
            block(given)
        end
        return blocked_for()
    end
    if has.shut == '1' and token ~= '' and has.probe ~= token then
        return blocked_for() -- sent before the block; the probe decides
    end

    local again = has.shut == '1' or (has.opened and now - num('opened') < window)
    local streak = again and num('streak') + 1 or 1
    local periods = math.min(LONGEST_BLOCK, window * 2 ^ math.max(0, streak - 2))
    if streak == 1 and date then
        periods = window - date % window
    elseif streak == 1 then
        periods = window
    end
    -- "Retry-After: 0" again and again must not become a hammer.
    local least = math.min(window, 1000 * 2 ^ math.min(20, streak - 1))
    if streak == 1 and status == 429 then
        set('factor', math.max(0.05, factor(window) * LOWER))
        set('lowered', whole(now))
    end
    set('streak', streak)
    set('shut', 1)
    drop('probe')
    drop('opened')
    block(math.max(least, given or periods))
    keep(window, 0)
    return blocked_for()
end

local function relax(token)
    if has.shut ~= '1' or now < num('until') or (has.probe and has.probe ~= token) then
        return 0
    end
    drop('shut')
    drop('probe')
    set('opened', whole(now))
    return 1
end

local function usage(limit, window)
    local rules = rules_alive()
    for _, rule in ipairs(rules) do
        if rule.window == window then
            limit = math.min(limit, rule.limit)
        end
    end
    local out = {}
    for class, units in pairs(used_by_class(window)) do
        if units > 0 then
            out[#out + 1] = class
            out[#out + 1] = units
        end
    end
    local rule = {limit = limit, window = window}
    local mood = 'open'
    if now < num('until') then
        mood = 'blocked'
    elseif has.shut == '1' then
        mood = 'probing'
    elseif ramp(window) < 1 then
        mood = 'ramping'
    end
    local allowed = cap(rule, 'confirm', 1, ramp(window))
    for _, each in ipairs(rules) do
        local part = cap(each, 'confirm', 1, ramp(each.window)) * window / each.window
        allowed = math.min(allowed, math.max(1, math.floor(part + 1e-9)))
    end
    return {limit, cap(rule, 'confirm', 1, 1), allowed, mood,
        num('until'), num('refusals'), num('blocked_ms') - blocked_for(), out}
end

local function rest(from)
    local out = {}
    for i = from, #ARGV do
        out[#out + 1] = ARGV[i]
    end
    return out
end

local function answer(op)
    if entries_now == 0 then
        has.units = nil -- the log ended by itself
    end
    if op == 'usage' then
        return usage(tonumber(ARGV[3]), tonumber(ARGV[4]))
    end
    if not has.units then
        keep_charged(charged())
    end
    follow_clock(tonumber(ARGV[2]))
    if op == 'name' then
        name_rule(ARGV[5], ARGV[3], ARGV[4])
        keep(tonumber(ARGV[4]), 0)
        return usage(tonumber(ARGV[3]), tonumber(ARGV[4]))
    elseif op == 'take' then
        return take(ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]),
            tonumber(ARGV[9]), ARGV[10], ARGV[11], tonumber(ARGV[12]))
    elseif op == 'settle' then
        return settle(ARGV[3], rest(4))
    elseif op == 'refuse' then
        return refuse(tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7])
    elseif op == 'relax' then
        return relax(ARGV[3])
    elseif op == 'restore' then
        name_rule(ARGV[3], ARGV[4], ARGV[5])
        note_takes(ARGV[6], math.max(tonumber(ARGV[7]), takes_of(ARGV[6])))
        return restore(tonumber(ARGV[5]), rest(8))
    end
end

return {answer(ARGV[1]), now}
