-- The token bucket of resilience/core/bucket.py, for a state that many processes share; read that file first.
--
-- One script is one decision: nobody can come between the look and the taking. It differs from the core in two ways
-- only. Several rates, and the taking of several calls' worth at once, are decided here, since a second round trip would
-- be a second decision; and whoever waits takes at once and into debt, since nobody here can wake anybody.
--
-- What comes back is bounded by the mark, as in the core, less what others gave back since. Of many who wait and give
-- up together that is too little, since what was given back by those behind one did not lie below one's mark. So a
-- bucket also remembers the least that its state has been since it was last full: that bounds it from below.
--
-- KEYS[1]  a string, for each rate: the state as a pair (high, low), the sum of what was ever given back, the least
--          state since the bucket was last full, and that sum at the time.
-- Numbers  n, n x (amount, per, burst), then by verb, n of each that is named in the plural:
--   take    costs keeps owed most patience  -> granted delay, and the string, as the mark of what was taken, if any
--   settle  costs actual, mark              -> 1, what has come back, and the sums
--   peek    costs keeps                     -> n x (remaining reset_after retry_after)
--   reset                                   -> 1
local n, at = given[1], 2
local SPARE = 60000 -- milliseconds that a full bucket is remembered, so that a clock set back by less mints nothing
local LONGEST = 1e14

local function numbers(count)
  local list = {}
  for i = 1, count do list[i] = given[at + i - 1] end
  at = at + count
  return list
end

-- The exact sum of a pair and a number (Knuth's two-sum).
local function plus(high, low, amount)
  local total = high + amount
  local added = total - high
  low = low + ((high - (total - added)) + (amount - added))
  high = total + low
  return high, low - (high - total)
end

-- The exact product as a pair (Dekker).
local function product(a, b)
  local p = a * b
  local c = 134217729 * a
  local a1 = c - (c - a)
  local a2 = a - a1
  c = 134217729 * b
  local b1 = c - (c - b)
  local b2 = b - b1
  return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2
end

-- The next number away from zero.
local function beyond_next(x)
  if x == 0 then return 4.9406564584124654e-324 end
  local _, exponent = math.frexp(x)
  local step = math.ldexp(1, exponent - 53)
  return x > 0 and x + step or x - step
end

local rates = {}
for i = 1, n do
  local terms = numbers(3)
  rates[i] = {amount = terms[1], per = terms[2], burst = terms[3], rate = terms[1] / terms[2]}
end

-- now * amount / per, rounded once.
local function line_at(r, moment)
  local p, left = product(moment, r.amount)
  local q = p / r.per
  local back, error = product(q, r.per)
  local exact = q + (((p - back) - error) + left) / r.per
  if exact ~= exact then return q end
  return exact
end

local function floor_of(r, line)
  local floor = line - r.burst
  if line >= r.burst then return plus(line, 0, -r.burst) end
  if floor + r.burst <= line then return floor, 0 end
  return beyond_next(floor), 0
end

local states, given_back = {}, false
local raw = call('GET', key)
if raw then
  local found, count = parse(raw, 1e300)
  if not found then return junk() end
  if count ~= 5 * n then return junk(': not ' .. n .. ' rates') end
  for i = 1, n do
    local from = 5 * i - 4
    states[i] = {found[from], found[from + 1], found[from + 2], found[from + 3], found[from + 4]}
    if found[from + 2] > 0 then given_back = true end
  end
end

local function save(keep_longer)
  local words, longest = {}, 0
  for i, r in ipairs(rates) do
    local s = states[i]
    for j = 1, 5 do words[#words + 1] = text(s[j]) end
    longest = max(longest, ((s[1] - r.line) + s[2] + r.burst) / r.rate)
  end
  local ttl = min(LONGEST, math.ceil(longest * 1000)) + SPARE
  -- A mark from before something was given back may be above what is there now: remember that for as long.
  if keep_longer then ttl = max(ttl, call('PTTL', key)) end
  local saved = table.concat(words, ' ')
  call('SET', key, saved, 'PX', format('%.0f', ttl))
  return saved
end

for i, r in ipairs(rates) do
  r.line = line_at(r, now)
  r.floor_high, r.floor_low = floor_of(r, r.line)
end

-- The state with what has come in since, and whether the bucket is full.
local function raised(i)
  local r, s = rates[i], states[i]
  if s and (s[1] - r.floor_high) + s[2] > r.floor_low then return s[1], s[2], false end
  return r.floor_high, r.floor_low, true
end

-- Write down what was taken, whatever is there.
local function charge(i, cost)
  local s = states[i]
  local high, low, full = raised(i)
  high, low = plus(high, low, cost)
  local returned = s and s[3] or 0
  if full then
    states[i] = {high, low, returned, high, returned}
  else
    states[i] = {high, low, returned, s[4], s[5]}
  end
end

-- The state after taking, or nil.
local function taken(i, cost, keep)
  local r = rates[i]
  local high, low, full = raised(i)
  local h, l = plus(high, low, cost)
  if full then
    if cost + keep <= r.burst then return h, l end
    return nil
  end
  local gh, gl = h, l
  if keep ~= 0 then gh, gl = plus(h, l, keep) end
  if gh > r.line or (gh == r.line and gl > 0) then return nil end
  return h, l
end

-- Seconds until `taken` would not be nil; enough also where the sum of a reading and a wait is rounded down.
local function wait_for(i, cost, keep)
  if taken(i, cost, keep) then return 0 end
  local r = rates[i]
  local high, low, full = raised(i)
  if full then return math.huge end
  local h, l = plus(high, low, cost)
  if keep ~= 0 then h, l = plus(h, l, keep) end
  local when = now + ((h - r.line) + l) / r.rate
  while true do
    local line = line_at(r, when)
    if not (h > line or (h == line and l > 0)) then break end
    when = beyond_next(when)
  end
  local delay = when - now
  while now + delay < when do delay = beyond_next(delay) end
  return delay
end

if verb == 'take' then
  local costs, keeps, owed = numbers(n), numbers(n), numbers(n)
  local limits = numbers(2)
  local most, patience = limits[1], limits[2]
  local changed = false
  for i = 1, n do
    if owed[i] > 0 then
      charge(i, owed[i])
      changed = true
    end
  end
  local function passes(count)
    for i = 1, n do
      if costs[i] > 0 and not taken(i, count * costs[i], keeps[i]) then return false end
    end
    return true
  end
  local count = most
  if most > 1 then
    for i, r in ipairs(rates) do
      local high, low = raised(i)
      if costs[i] > 0 then count = min(count, math.floor(((r.line - high) - low - keeps[i]) / costs[i]) + 1) end
    end
  end
  count = max(1, count)
  while count > 0 and not passes(count) do count = count - 1 end
  local delay = 0
  if count == 0 then
    for i = 1, n do
      if costs[i] > 0 then delay = max(delay, wait_for(i, costs[i], keeps[i])) end
    end
  end
  local granted = count
  if count == 0 and delay <= patience then granted = 1 end
  local marks = ''
  if granted > 0 or changed then
    for i = 1, n do
      if granted > 0 and costs[i] > 0 then
        charge(i, granted * costs[i])
      elseif not states[i] then
        charge(i, 0)
      end
    end
    marks = save(given_back)
  end
  return text(granted) .. ' ' .. text(delay) .. ' ' .. marks
end

if verb == 'settle' then
  local costs, actual, marks = numbers(n), numbers(n), numbers(5 * n)
  local changed, back = false, {1}
  for i, r in ipairs(rates) do
    back[i + 1], back[n + i + 1] = 0, states[i] and states[i][3] or 0
    local change = actual[i] - costs[i]
    local mh, ml, before = marks[5 * i - 4], marks[5 * i - 3], marks[5 * i - 2]
    local s = states[i]
    if change > 0 then
      -- A bucket that was forgotten was full, and so had caught up with the mark.
      local high, low = plus(s and s[1] or mh, s and s[2] or ml, change)
      states[i] = {high, low, s and s[3] or 0, s and s[4] or high, s and s[5] or 0}
      changed = true
    elseif change < 0 and s then
      local h, l = plus(mh, ml, min(0, before - s[3]))
      if before >= s[5] and mh >= s[4] and h < s[4] then h, l = s[4], 0 end
      h, l = plus(h, l, r.burst)
      h, l = plus(h, l, -r.line)
      local refund = min(-change, max(0, h + l))
      if refund > 0 then
        h, l = plus(s[1], s[2], -refund)
        states[i] = {h, l, s[3] + refund, min(s[4], h), s[5]}
        changed, given_back = true, true
        back[i + 1], back[n + i + 1] = refund, s[3] + refund
      end
    end
  end
  if changed then
    for i = 1, n do
      if not states[i] then charge(i, 0) end
    end
    save(given_back)
  end
  for i, number in ipairs(back) do back[i] = text(number) end
  return table.concat(back, ' ')
end

if verb == 'peek' then
  local costs, keeps = numbers(n), numbers(n)
  local reply = {}
  for i, r in ipairs(rates) do
    local high, low = raised(i)
    local level = min(r.burst, (r.line - high) - low)
    local wait = 0
    if costs[i] + keeps[i] > r.burst then
      wait = math.huge
    elseif costs[i] > 0 then
      wait = wait_for(i, costs[i], keeps[i])
    end
    reply[#reply + 1] = text(max(0, level - keeps[i]))
    reply[#reply + 1] = text(max(0, r.burst - level) / r.rate)
    reply[#reply + 1] = text(wait)
  end
  return table.concat(reply, ' ')
end

if verb == 'reset' then
  call('DEL', key)
  return '1'
end
return redis.error_reply('unknown verb ' .. verb)
