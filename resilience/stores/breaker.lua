-- The circuit of resilience/core/breaker.py, for a state that many processes share; read that file first.
--
-- It differs from the core in one way: a call that is slow is counted when it ends, since nobody here could tell a call
-- that hangs from a process that has died. Numbers are drawn from the microseconds of the first decision on, so that a
-- permit from before the server lost its memory is never taken for one from after.
--
-- KEYS[1]  a hash: `core` with the numbers of the circuit, `t<i>` with the tally of each trip, `leases` with pairs
--          (permit, end), and `i<token>` with the reason of each isolation.
-- ARGV     reading or "", verb, numbers with spaces between, and a text. The numbers: cooldown, grows, trials, lease or
--          -1, ramp or -1, n, n x (kind, limit, minimum, size, slower_than or -1), then by verb:
--   acquire u                        -> permit or -1
--   settle permit verdict elapsed hint    (verdict: 0 success, 1 failure, 2 ignored)        -> 1 counted, 0 late
--   look | open | close | reset      -> 0
--   isolate -> token, for the reason in the text               release token -> 1 or 0          tell opening before seconds -> 0
-- The answer is followed by what the circuit is then: state (0 closed, 1 open, 2 half-open, 3 isolated), since or -1,
-- retry_after or -1, opening (0: known), cooldown before, failures, calls, live trials, lease, whether leases are too
-- short, the reading; on a second line changes as "from to from to", on a third the reason.
local key = KEYS[1]
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
local CLOSED, OPEN, HALF_OPEN, ISOLATED = 0, 1, 2, 3
local LONGEST_HINT, SLICES = 3600, 10
local IDLE, PINNED = 86400000, 31622400000 -- milliseconds: a day; 366 days for what somebody has isolated by hand
local verb = ARGV[2]
local given = {}
for word in string.gmatch(ARGV[3], '%S+') do given[#given + 1] = tonumber(word) end
local longest, grows, trials, lease_given, ramp_seconds, n = given[1], given[2] == 1, given[3], given[4], given[5], given[6]
local at = 7
local trips, slow_above = {}, math.huge
for i = 1, n do
  local trip = {kind = given[at], limit = given[at + 1], minimum = given[at + 2],
    size = given[at + 3], slower = given[at + 4]}
  if trip.slower >= 0 then slow_above = math.min(slow_above, trip.slower) end
  trips[i] = trip
  at = at + 5
end
local function text(number)
  if number == 0 then return '0' end
  if number == -1 then return '-1' end
  return string.format('%.17g', number)
end

-- --- loading ----------------------------------------------------------------------------------------------------------

local NAMES = {'state', 'since', 'latest', 'serial', 'generation', 'ends', 'rest', 'began', 'hint', 'openings',
  'unmeasured', 'passed', 'lapses', 'ramp_began', 'ramp_owed', 'ramp_wait'}
local fields = {}
local flat = redis.call('HGETALL', key)
for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end

local function parse(words)
  local found = {}
  for word in string.gmatch(words, '%S+') do
    local value = tonumber(word)
    if not value or value ~= value then return nil end
    found[#found + 1] = value
  end
  return found
end

local junk = redis.error_reply('JUNK under ' .. key)
local c = {}
if fields['core'] then
  local found = parse(fields['core'])
  if not found or #found ~= #NAMES then return junk end
  for i, name in ipairs(NAMES) do c[name] = found[i] end
elseif #flat > 0 then
  return junk
else
  local first = math.floor(now * 1000000)
  c = {state = CLOSED, since = -1, latest = now, serial = first, generation = first, ends = 0,
    rest = grows and 0 or longest, began = 0, hint = 0, openings = 0, unmeasured = 0, passed = 0, lapses = 0,
    ramp_began = -1, ramp_owed = 0, ramp_wait = 0}
end
local leases = {}
if fields['leases'] then
  local found = parse(fields['leases'])
  if not found or #found % 2 ~= 0 then return junk end
  for i = 1, #found, 2 do leases[#leases + 1] = {found[i], found[i + 1]} end
end
local isolations, newest = {}, nil
for field, reason in pairs(fields) do
  if string.sub(field, 1, 1) == 'i' then
    local token = tonumber(string.sub(field, 2))
    if not token then return junk end
    isolations[token] = reason
    if not newest or token > newest then newest = token end
  end
end
local tallies = {}
for i, trip in ipairs(trips) do
  local raw = fields['t' .. i]
  local tally = {run = 0, bits = '', slice = nil, calls = {}, bad = {}}
  for s = 1, SLICES do tally.calls[s], tally.bad[s] = 0, 0 end
  if raw and trip.kind == 2 then
    if string.find(raw, '[^01]') then return junk end
    tally.bits = string.sub(raw, -trip.size)
  elseif raw then
    local found = parse(raw)
    if not found or #found ~= (trip.kind == 1 and 1 or 1 + 2 * SLICES) then return junk end
    if trip.kind == 1 then
      tally.run = found[1]
    else
      tally.slice = found[1]
      for s = 1, SLICES do tally.calls[s], tally.bad[s] = found[1 + s], found[1 + SLICES + s] end
    end
  end
  tallies[i] = tally
end

-- --- tallies ----------------------------------------------------------------------------------------------------------

-- The floor of a quotient, exact where the quotient is rounded up to a whole number.
local function whole(x, width)
  local quotient = (x - math.fmod(x, width)) / width
  local down = math.floor(quotient)
  if quotient - down > 0.5 then down = down + 1 end
  return down
end

local function turn(trip, tally, moment)
  local reached = whole(moment, math.max(trip.size / SLICES, 1e-290))
  if not tally.slice then tally.slice = reached end
  for begun = math.max(tally.slice, reached - SLICES) + 1, reached do
    local s = begun % SLICES + 1
    tally.calls[s], tally.bad[s] = 0, 0
  end
  tally.slice = math.max(tally.slice, reached)
  return tally.slice % SLICES + 1
end

local function counts(trip, tally, moment)
  if trip.kind == 1 then return tally.run, tally.run end
  if trip.kind == 2 then
    local _, bad = string.gsub(tally.bits, '1', '')
    return bad, #tally.bits
  end
  local bad, calls = 0, 0
  if tally.slice then turn(trip, tally, moment) end
  for s = 1, SLICES do bad, calls = bad + tally.bad[s], calls + tally.calls[s] end
  return bad, calls
end

local function record(trip, tally, verdict, elapsed, moment)
  if trip.kind == 1 then
    if verdict == 1 then
      tally.run = tally.run + 1
      return tally.run >= trip.limit
    end
    if verdict == 0 then tally.run = 0 end
    return false
  end
  local bad = verdict == 1
  if trip.slower >= 0 then bad = elapsed > trip.slower end
  if verdict == 2 and (trip.slower < 0 or not bad) then return false end
  if trip.kind == 2 then
    tally.bits = string.sub(tally.bits .. (bad and '1' or '0'), -trip.size)
  else
    local s = turn(trip, tally, moment)
    tally.calls[s] = tally.calls[s] + 1
    if bad then tally.bad[s] = tally.bad[s] + 1 end
  end
  local bads, calls = counts(trip, tally, moment)
  return calls >= trip.minimum and bads / calls >= trip.limit
end

-- --- transitions ------------------------------------------------------------------------------------------------------

local changes, short = {}, 0

local function draw()
  c.serial = c.serial + 1
  return c.serial
end

local function move(state)
  c.generation = draw()
  leases, c.passed, c.lapses = {}, 0, 0
  if state ~= CLOSED then c.ramp_began = -1 end
  if state ~= c.state then
    changes[#changes + 1] = c.state .. ' ' .. state
    c.state, c.since = state, c.latest
  end
end

local function open(hint)
  if c.state == OPEN then
    c.began, c.hint = c.latest, 0
    if c.unmeasured == 0 then c.ends = c.latest + c.rest end
  else
    hint = math.min(hint, LONGEST_HINT)
    c.began, c.hint = c.latest, hint
    if grows then
      c.openings = c.openings + 1
      c.ends, c.unmeasured = math.huge, 1
    else
      c.ends = c.latest + math.max(c.rest, hint)
    end
  end
  move(OPEN)
end

local function close(ramps)
  for i = 1, n do
    tallies[i] = {run = 0, bits = '', slice = nil, calls = {}, bad = {}}
    for s = 1, SLICES do tallies[i].calls[s], tallies[i].bad[s] = 0, 0 end
  end
  local began = c.ramp_began
  if ramp_seconds >= 0 and c.state ~= CLOSED then began, c.ramp_owed = c.latest, 0 end
  move(CLOSED)
  c.openings, c.unmeasured = 0, 0
  if grows then c.rest = 0 end
  c.ramp_began = ramps and began or -1
end

local function lease()
  if lease_given >= 0 then return lease_given end
  return math.max(longest, c.rest)
end

local function places() return trials - c.passed - #leases end

local function look()
  c.latest = math.max(c.latest, now)
  if c.ramp_began >= 0 and c.latest - c.ramp_began >= ramp_seconds then c.ramp_began = -1 end
  if c.state == OPEN and c.latest >= c.ends then move(HALF_OPEN) end
  local live = {}
  for _, entry in ipairs(leases) do
    if entry[2] > c.latest then
      live[#live + 1] = entry
    else
      c.lapses = c.lapses + 1
      if c.lapses >= 2 then c.lapses, short = 0, 1 end
    end
  end
  leases = live
end

local function admits(u)
  local gone = c.latest - c.ramp_began
  local owed = c.ramp_owed + gone / ramp_seconds
  if u < owed then
    c.ramp_owed = owed - 1
    return true
  end
  c.ramp_owed = owed
  c.ramp_wait = (ramp_seconds - gone) * (1 - u) / (1 - math.max(owed, 0))
  return false
end

-- --- verbs ------------------------------------------------------------------------------------------------------------

local answer, refused_by_ramp = 0, false
look()
if verb == 'acquire' then
  answer = -1
  if c.state == CLOSED then
    if c.ramp_began >= 0 and not admits(given[at]) then
      refused_by_ramp = true
    else
      answer = c.generation
    end
  elseif c.state == HALF_OPEN and places() > 0 then
    answer = draw()
    leases[#leases + 1] = {answer, c.latest + lease()}
  end
elseif verb == 'settle' then
  local permit, verdict = given[at], given[at + 1]
  local elapsed, hint = given[at + 2], given[at + 3]
  local trial = nil
  for i, entry in ipairs(leases) do
    if entry[1] == permit then trial = i end
  end
  if trial then
    answer = 1
    table.remove(leases, trial)
    c.lapses = 0
    if verdict == 1 or elapsed > slow_above then
      open(hint)
    elseif verdict == 0 then
      if c.passed + 1 < trials then
        c.passed = c.passed + 1
      else
        close(true)
      end
    end
  elseif c.state == CLOSED and permit == c.generation then
    answer = 1
    local tripped = false
    for i, trip in ipairs(trips) do
      tripped = record(trip, tallies[i], verdict, elapsed, c.latest) or tripped
    end
    if tripped then open(hint) end
  end
elseif verb == 'open' then
  if c.state ~= ISOLATED then open(0) end
elseif verb == 'close' then
  if c.state ~= ISOLATED then close(true) end
elseif verb == 'reset' then
  isolations = {}
  close(false)
elseif verb == 'isolate' then
  answer = draw()
  isolations[answer], newest = ARGV[4], answer
  move(ISOLATED)
elseif verb == 'release' then
  local token = given[at]
  if isolations[token] then
    answer = 1
    isolations[token], newest = nil, nil
    for other in pairs(isolations) do
      if not newest or other > newest then newest = other end
    end
    if not newest then close(true) end
  end
elseif verb == 'tell' then
  local opening, before, seconds = given[at], given[at + 1], given[at + 2]
  if c.unmeasured == 1 and c.openings == opening and c.rest == before then
    c.rest, c.ends, c.unmeasured = seconds, c.began + math.max(seconds, c.hint), 0
    look()
  end
elseif verb ~= 'look' then
  return redis.error_reply('unknown verb ' .. verb)
end

-- --- saving -----------------------------------------------------------------------------------------------------------

local words = {}
for i, name in ipairs(NAMES) do words[i] = text(c[name]) end
local saved = {'core', table.concat(words, ' ')}
for i, trip in ipairs(trips) do
  local tally = tallies[i]
  local line = ''
  if trip.kind == 1 then
    line = text(tally.run)
  elseif trip.kind == 2 then
    line = tally.bits
  elseif tally.slice then
    line = text(tally.slice) .. ' ' .. table.concat(tally.calls, ' ') .. ' ' .. table.concat(tally.bad, ' ')
  end
  if line ~= '' then
    saved[#saved + 1], saved[#saved + 2] = 't' .. i, line
  elseif fields['t' .. i] then
    redis.call('HDEL', key, 't' .. i)
  end
end
if #leases > 0 then
  local pairs_of = {}
  for i, entry in ipairs(leases) do pairs_of[i] = text(entry[1]) .. ' ' .. text(entry[2]) end
  saved[#saved + 1], saved[#saved + 2] = 'leases', table.concat(pairs_of, ' ')
elseif fields['leases'] then
  redis.call('HDEL', key, 'leases')
end
for field in pairs(fields) do
  if string.sub(field, 1, 1) == 'i' and not isolations[tonumber(string.sub(field, 2))] then
    redis.call('HDEL', key, field)
  end
end
if verb == 'isolate' then
  saved[#saved + 1], saved[#saved + 2] = 'i' .. text(answer), ARGV[4]
end
redis.call('HSET', key, unpack(saved))
local ttl = IDLE + math.ceil(math.min(1e9, 10 * math.max(longest, c.rest)) * 1000)
for _, trip in ipairs(trips) do
  if trip.kind == 3 then ttl = math.max(ttl, math.min(1e12, math.ceil(trip.size * 1000))) end
end
redis.call('PEXPIRE', key, string.format('%.0f', newest and PINNED or ttl))

-- --- what it is then --------------------------------------------------------------------------------------------------

-- Seconds to a later moment, enough to the last bit.
local function until_moment(moment)
  local wait = moment - c.latest
  while c.latest + wait < moment do
    local _, exponent = math.frexp(wait)
    wait = wait + math.ldexp(1, exponent - 53)
  end
  return wait
end

local retry_after = -1
if refused_by_ramp then
  retry_after = c.ramp_wait
elseif c.state == OPEN then
  retry_after = until_moment(c.ends)
elseif c.state == HALF_OPEN then
  retry_after = 0
  if places() <= 0 then
    local first = math.huge
    for _, entry in ipairs(leases) do first = math.min(first, entry[2]) end
    retry_after = until_moment(first)
  end
end
local failures, calls = 0, 0
if c.state == HALF_OPEN then
  calls = c.passed
else
  for i, trip in ipairs(trips) do
    local bad, seen = counts(trip, tallies[i], c.latest)
    if bad > failures or (bad == failures and seen > calls) then failures, calls = bad, seen end
  end
end
local waits_to_be_told = c.state == OPEN and c.unmeasured == 1
local view = {text(answer), text(c.state), text(c.since), text(retry_after),
  text(waits_to_be_told and c.openings or 0), text(c.rest), text(failures), text(calls), text(#leases), text(lease()),
  text(short), text(c.latest)}
return table.concat(view, ' ') .. '\n' .. table.concat(changes, ' ') .. '\n' .. (newest and isolations[newest] or '')
