-- Look through a stream for entries, newest first, a bounded number at a time; changes nothing.
-- KEYS: the stream. ARGV: the entry to look below ("+" for the newest), entries to walk at most, matches to
-- give at most, then what is looked for, each empty for anything: a Lua pattern of the type, a subject or
-- an event's id, a text in small letters.
-- Gives: the last entry walked, 1 where the stream ends there, then the matching entries.
local most, wanted = tonumber(ARGV[2]), tonumber(ARGV[3])
local kind, subject, text = ARGV[4], ARGV[5], ARGV[6]
local upto = ARGV[1]
if upto ~= '+' then upto = '(' .. upto end
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
    and (kind == '' or string.find(fields[4], kind))
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
