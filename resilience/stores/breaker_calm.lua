-- The answer that most callers of a circuit get, put before `breaker.lua`: it is closed, and nothing has changed.
--
-- Whoever changes anything writes down, as `calm`, what an acquisition is answered until the next change; so it takes a
-- look, and no reckoning. Where time alone changes the answer nothing is written down.
local CLOSED, OPEN, HALF_OPEN, ISOLATED = 0, 1, 2, 3

-- Milliseconds: a day, and ten cooldowns.
local function idle_for(cooldown) return 86400000 + math.ceil(min(1e9, 10 * cooldown) * 1000) end

if verb == 'acquire' then
  local kept = call('HMGET', key, 'calm', 'latest')
  local latest = tonumber(kept[2])
  if kept[1] and latest and latest == latest then
    if now > latest then
      latest = now
      call('HSET', key, 'latest', text(now))
    end
    call('PEXPIRE', key, format('%.0f', idle_for(given[1])))
    return kept[1] .. text(latest) .. '\n\n'
  end
end
