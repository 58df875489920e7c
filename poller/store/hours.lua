-- Count a stream's entries by hour, a bounded number at a time; changes nothing.
-- KEYS: the stream. ARGV: the entry to count after, entries to walk at most.
-- Gives: the last entry walked, how many were walked, then hour, entries, won, lost for each hour.
local rows = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
local order, counts, last = {}, {}, ARGV[1]
for _, row in ipairs(rows) do
  last = row[1]
  local hour = math.floor(tonumber(string.match(last, '^(%d+)')) / 3600000)
  local mine = counts[hour]
  if not mine then
    mine = {0, 0, 0}
    counts[hour] = mine
    order[#order + 1] = hour
  end
  mine[1] = mine[1] + 1
  -- The second field is the type (model.fields_of).
  local kind = row[2][4] or ''
  if string.sub(kind, -4) == '.won' then mine[2] = mine[2] + 1 end
  if string.sub(kind, -5) == '.lost' then mine[3] = mine[3] + 1 end
end
local told = {last, #rows}
for _, hour in ipairs(order) do
  told[#told + 1] = hour
  for _, count in ipairs(counts[hour]) do told[#told + 1] = count end
end
return told
