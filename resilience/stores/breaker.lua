-- The circuit of resilience/core/breaker.py, for a state that many processes share; read that file first.
--
-- It differs from the core in one way: a call that is slow is counted when it ends, since nobody here could tell a call
-- that hangs from a process that has died. Numbers are drawn from the microseconds of the first decision on, so that a
-- permit from before the server lost its memory is never taken for one from after.
--
-- An acquisition from a closed circuit, of which there are many and which changes nothing, is answered by
-- `breaker_calm.lua` already; what the trips count is in `breaker_trips.lua`.
--
-- KEYS[1]  a hash: `core` with the numbers of the circuit, `latest` with the newest reading, `calm` with the answer to an
--          acquisition where time alone changes nothing, `t<i>` with the tally of each trip, `leases` with pairs
--          (permit, end), and `i<token>` with the reason of each isolation.
-- Numbers  cooldown, grows, trials, lease or -1, ramp or -1, n, n x (kind, limit, minimum, size, slower_than or -1), then
--          by verb:
--   acquire u                        -> permit or -1
--   settle permit verdict elapsed hint    (verdict: 0 success, 1 failure, 2 ignored)        -> 1 counted, 0 late
--   look | open | close | reset      -> 0
--   isolate -> token, for the reason in the text               release token -> 1 or 0          tell opening before seconds -> 0
-- The answer is followed by what the circuit is then: state (0 closed, 1 open, 2 half-open, 3 isolated), since or -1,
-- retry_after or -1, opening (0: known), cooldown before, failures, calls, live trials, lease, whether leases are too
-- short, the reading; on a second line changes as "from to from to", on a third the reason.
local LONGEST_HINT = 3600
local PINNED = 31622400000 -- milliseconds: 366 days for what somebody has isolated by hand

-- --- loading ----------------------------------------------------------------------------------------------------------

local NAMES = {'state', 'since', 'serial', 'generation', 'ends', 'rest', 'began', 'hint', 'openings',
  'unmeasured', 'passed', 'lapses', 'ramp_began', 'ramp_owed', 'ramp_wait'}
local fields = {}
local flat = call('HGETALL', key)
for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end

local c, stored = {}, nil
if fields['core'] then
  local count
  stored, count = parse(fields['core'], math.huge)
  c.latest = tonumber(fields['latest'])
  if not stored or count ~= #NAMES or not c.latest or c.latest ~= c.latest then return junk() end
  for i, name in ipairs(NAMES) do c[name] = stored[i] end
elseif #flat > 0 then
  return junk()
else
  local first = math.floor(now * 1000000)
  c = {state = CLOSED, since = -1, latest = now, serial = first, generation = first, ends = 0,
    rest = grows and 0 or longest, began = 0, hint = 0, openings = 0, unmeasured = 0, passed = 0, lapses = 0,
    ramp_began = -1, ramp_owed = 0, ramp_wait = 0}
end
local leases = {}
if fields['leases'] then
  local found, count = parse(fields['leases'], math.huge)
  if not found or count % 2 ~= 0 then return junk() end
  for i = 1, count, 2 do leases[#leases + 1] = {found[i], found[i + 1]} end
end
local isolations, newest = {}, nil
for field, reason in pairs(fields) do
  if string.sub(field, 1, 1) == 'i' then
    local token = tonumber(string.sub(field, 2))
    if not token then return junk() end
    isolations[token] = reason
    if not newest or token > newest then newest = token end
  end
end
local tallies = {}
for i, trip in ipairs(trips) do
  local raw = fields['t' .. i]
  if raw then
    tallies[i] = tally_of(trip, raw)
    if not tallies[i] then return junk() end
  else
    tallies[i] = fresh(trip)
  end
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
    hint = min(hint, LONGEST_HINT)
    c.began, c.hint = c.latest, hint
    if grows then
      c.openings = c.openings + 1
      c.ends, c.unmeasured = math.huge, 1
    else
      c.ends = c.latest + max(c.rest, hint)
    end
  end
  move(OPEN)
end

local function close(ramps)
  for i, trip in ipairs(trips) do tallies[i] = fresh(trip) end
  local began = c.ramp_began
  if ramp_seconds >= 0 and c.state ~= CLOSED then began, c.ramp_owed = c.latest, 0 end
  move(CLOSED)
  c.openings, c.unmeasured = 0, 0
  if grows then c.rest = 0 end
  c.ramp_began = ramps and began or -1
end

local function lease()
  if lease_given >= 0 then return lease_given end
  return max(longest, c.rest)
end

local function places() return trials - c.passed - #leases end

local function look()
  c.latest = max(c.latest, now)
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
  c.ramp_wait = (ramp_seconds - gone) * (1 - u) / (1 - max(owed, 0))
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
    c.rest, c.ends, c.unmeasured = seconds, c.began + max(seconds, c.hint), 0
    look()
  end
elseif verb ~= 'look' then
  return redis.error_reply('unknown verb ' .. verb)
end

-- --- saving -----------------------------------------------------------------------------------------------------------

local saved = {'latest', text(c.latest)}
local function put(field, value)
  if value == fields[field] then return end
  saved[#saved + 1], saved[#saved + 2] = field, value
end
local same = stored ~= nil
for i, name in ipairs(NAMES) do same = same and c[name] == stored[i] end
if not same then
  local words = {}
  for i, name in ipairs(NAMES) do words[i] = text(c[name]) end
  put('core', table.concat(words, ' '))
end
for i, trip in ipairs(trips) do
  local line = written(trip, tallies[i])
  if line ~= '' then
    put('t' .. i, line)
  elseif fields['t' .. i] then
    call('HDEL', key, 't' .. i)
  end
end
if #leases > 0 then
  local pairs_of = {}
  for i, entry in ipairs(leases) do pairs_of[i] = text(entry[1]) .. ' ' .. text(entry[2]) end
  put('leases', table.concat(pairs_of, ' '))
elseif fields['leases'] then
  call('HDEL', key, 'leases')
end
for field in pairs(fields) do
  if string.sub(field, 1, 1) == 'i' and not isolations[tonumber(string.sub(field, 2))] then
    call('HDEL', key, field)
  end
end
if verb == 'isolate' then
  put('i' .. text(answer), ARGV[4])
end
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
    for _, entry in ipairs(leases) do first = min(first, entry[2]) end
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
-- What an acquisition is answered as long as nothing but time passes.
local view = table.concat({text(c.state), text(c.since), text(retry_after), text(waits_to_be_told and c.openings or 0),
  text(c.rest), text(failures), text(calls), text(#leases), text(lease())}, ' ')
if c.state == CLOSED and c.ramp_began < 0 and timeless then
  put('calm', text(c.generation) .. ' ' .. view .. ' 0 ')
elseif fields['calm'] then
  call('HDEL', key, 'calm')
end
call('HSET', key, unpack(saved))
local ttl = idle_for(max(longest, c.rest))
for _, trip in ipairs(trips) do
  if trip.kind == 3 then ttl = max(ttl, min(1e12, math.ceil(trip.size * 1000))) end
end
call('PEXPIRE', key, format('%.0f', newest and PINNED or ttl))
return text(answer) .. ' ' .. view .. ' ' .. short .. ' ' .. text(c.latest) .. '\n' .. table.concat(changes, ' ') .. '\n'
  .. (newest and isolations[newest] or '')
