-- What each script begins with: who asks, when, and with which numbers. It is put before the script when that is loaded.
--
-- Numbers come packed, as doubles of eight bytes: exact, and unpacked in one step, where words would take longer to be
-- read than the decision takes. What is kept and what is answered are words, as `%.17g`, for people to look at.
--
-- ARGV     reading or "", verb, packed numbers, and a text
local key, verb, now = KEYS[1], ARGV[2], tonumber(ARGV[1])
local tonumber, format, max, min = tonumber, string.format, math.max, math.min
local call = redis.call
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local given = {struct.unpack('<' .. string.rep('d', #ARGV[3] / 8), ARGV[3])}

local function text(number)
  if number == 0 then return '0' end
  if number == -1 then return '-1' end
  return format('%.17g', number)
end

-- The numbers that are written under a key, or nil where something else is.
local function parse(words, bound)
  local found, count = {}, 0
  for word in string.gmatch(words, '%S+') do
    local value = tonumber(word)
    if not value or value ~= value or value > bound or value < -bound then return nil end
    count = count + 1
    found[count] = value
  end
  return found, count
end

local function junk(why) return redis.error_reply('JUNK under ' .. key .. (why or '')) end
