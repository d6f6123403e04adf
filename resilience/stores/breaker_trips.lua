-- The trips of a circuit and what they have counted, after resilience/core/trip.py; put before `breaker.lua`.
local SLICES = 10
local longest, grows, trials, lease_given, ramp_seconds, n = given[1], given[2] == 1, given[3], given[4], given[5], given[6]
local at = 7
local trips, slow_above, timeless = {}, math.huge, true
for i = 1, n do
  local trip = {kind = given[at], limit = given[at + 1], minimum = given[at + 2],
    size = given[at + 3], slower = given[at + 4]}
  if trip.slower >= 0 then slow_above = min(slow_above, trip.slower) end
  if trip.kind == 3 then timeless = false end
  trips[i] = trip
  at = at + 5
end

local function fresh(trip)
  if trip.kind == 1 then return {run = 0} end
  if trip.kind == 2 then return {bits = ''} end
  local tally = {calls = {}, bad = {}}
  for s = 1, SLICES do tally.calls[s], tally.bad[s] = 0, 0 end
  return tally
end

-- A tally as it is written, or nil where something else is.
local function tally_of(trip, raw)
  local tally = fresh(trip)
  if trip.kind == 2 then
    if string.find(raw, '[^01]') then return nil end
    tally.bits = string.sub(raw, -trip.size)
    return tally
  end
  local found, count = parse(raw, math.huge)
  if not found or count ~= (trip.kind == 1 and 1 or 1 + 2 * SLICES) then return nil end
  if trip.kind == 1 then
    tally.run = found[1]
  else
    tally.slice = found[1]
    for s = 1, SLICES do tally.calls[s], tally.bad[s] = found[1 + s], found[1 + SLICES + s] end
  end
  return tally
end

local function written(trip, tally)
  if trip.kind == 1 then return text(tally.run) end
  if trip.kind == 2 then return tally.bits end
  if not tally.slice then return '' end
  return text(tally.slice) .. ' ' .. table.concat(tally.calls, ' ') .. ' ' .. table.concat(tally.bad, ' ')
end

-- The floor of a quotient, exact where the quotient is rounded up to a whole number.
local function whole(x, width)
  local quotient = (x - math.fmod(x, width)) / width
  local down = math.floor(quotient)
  if quotient - down > 0.5 then down = down + 1 end
  return down
end

local function turn(trip, tally, moment)
  local reached = whole(moment, max(trip.size / SLICES, 1e-290))
  if not tally.slice then tally.slice = reached end
  for begun = max(tally.slice, reached - SLICES) + 1, reached do
    local s = begun % SLICES + 1
    tally.calls[s], tally.bad[s] = 0, 0
  end
  tally.slice = max(tally.slice, reached)
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
