-- The retry budget of resilience/core/budget.py, for a state that many processes share; read that file first.
--
-- A deposit is worth nothing until somebody withdraws, so deposits are counted where they are made and brought along.
--
-- KEYS[1]  a string: deposits since the bucket was last full, spent since, when that was, the newest reading.
-- Numbers  ratio, per_second, capacity, deposits, these since the last question
--   withdraw -> 1 or 0, level          deposit, level -> 1, level
local ratio, per_second, capacity, more = given[1], given[2], given[3], given[4]
local SPARE, IDLE, LONGEST = 60000, 86400000, 1e14 -- milliseconds
local deposits, spent, full_at, latest = 0, 0, now, now
local raw = call('GET', key)
if raw then
  local found, count = parse(raw, 1e300)
  if not found or count ~= 4 then return junk() end
  deposits, spent, full_at, latest = found[1], found[2], found[3], found[4]
end
latest = max(latest, now)

-- One after the other, since the one that fills the bucket is the last that counts.
if ratio > 0 then
  local step = min(more, max(0, math.floor(spent / ratio) - deposits - 1))
  deposits, more = deposits + step, more - step
  while more > 0 and deposits * ratio < spent do
    deposits, more = deposits + 1, more - 1
  end
end

local answer = 1
local level = capacity - spent + (deposits * ratio + (latest - full_at) * per_second)
if verb == 'withdraw' then
  if spent == 0 or level >= capacity then
    spent, deposits, full_at = 1, 0, latest
  elseif level < 1 then
    answer = 0
  else
    spent = spent + 1
  end
  level = capacity - spent + (deposits * ratio + (latest - full_at) * per_second)
end
if spent == 0 then level = capacity end
level = min(max(0, level), capacity)
local ttl = IDLE
if spent == 0 or per_second > 0 then
  ttl = min(LONGEST, spent == 0 and 0 or math.ceil((capacity - level) / per_second * 1000)) + SPARE
end
local words = format('%.17g %.17g %.17g %.17g', deposits, spent, full_at, latest)
call('SET', key, words, 'PX', format('%.0f', ttl))
return format('%.17g %.17g', answer, level)
