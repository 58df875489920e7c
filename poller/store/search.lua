-- Look through a stream for entries, newest first, a bounded number at a time; changes nothing.
-- KEYS: the stream. ARGV: the entry to look below ("+" for the newest), entries to walk at most, matches to
-- give at most, then what is looked for, each empty for anything: Lua patterns of what stands between the
-- stars of a glob over the type, parted by stars; a subject or an event's id; a text in small letters.
-- Gives: the last entry walked, 1 where the stream ends there, then the matching entries.
local most, wanted = tonumber(ARGV[2]), tonumber(ARGV[3])
local kind, subject, text = ARGV[4], ARGV[5], ARGV[6]
local upto = ARGV[1]
if upto ~= '+' then upto = '(' .. upto end
-- The pieces are found one after another: a single pattern with many `.*` in it would be tried in more ways
-- than there is time, and a server that runs a script answers nobody else.
local pieces = {}
for piece in string.gmatch(kind .. '*', '([^*]*)%*') do pieces[#pieces + 1] = piece end
local function alike(text)
  if #pieces == 1 then return string.find(text, '^' .. kind .. '$') end
  local _, at = string.find(text, '^' .. pieces[1])
  for i = 2, #pieces - 1 do
    if at then _, at = string.find(text, pieces[i], at + 1) end
  end
  return at and string.find(text, pieces[#pieces] .. '$', at + 1)
end
local step = most
if kind == '' and subject == '' and text == '' then step = math.min(most, wanted) end
local rows = redis.call('XREVRANGE', KEYS[1], upto, '-', 'COUNT', step)
local told, last, found = {}, ARGV[1], 0
for _, row in ipairs(rows) do
  if found == wanted then break end
  last = row[1]
  -- The fields of an entry stand in the order of model.fields_of: id, type, subject, time, event.
  local fields = row[2]
  local fits = #fields == 10
    and (kind == '' or alike(fields[4]))
    and (subject == '' or fields[6] == subject or fields[2] == subject)
    and (text == '' or string.find(string.lower(fields[10]), text, 1, true))
  if fits then
    found = found + 1
    told[found] = row
  end
end
local ended = 0
if #rows < step and (#rows == 0 or last == rows[#rows][1]) then ended = 1 end
return {last, ended, told}
