-- Throttling (429), and the quotas of tokens and requests a minute.

local function throttle_wait(throttle)
  local wait = throttle.ends - now
  return wait > ROUNDING and wait or 0
end

-- `seconds` is what the server said; nil, or nothing above 0, is that it did not say.
local function pause(throttle, seconds)
  if throttle.ends - now <= ROUNDING then
    throttle.in_a_row = throttle.in_a_row + 1
  end
  if not seconds or seconds <= 0 then
    seconds = math.min(FIRST_PAUSE * 2 ^ math.min(throttle.in_a_row - 1, 60), MAX_PAUSE)
  end
  throttle.ends = math.max(throttle.ends, now + seconds)
end

local function unthrottle(throttle)
  if throttle.ends - now <= ROUNDING then
    throttle.in_a_row, throttle.ends = 0, 0
  end
end

-- Tokens are counted in the second in which they were reserved, and forgotten when whatever was sent in
-- it reached the service a minute ago: no 60 seconds ever hold more than the quota.
local function forgotten_at(second)
  return second + 1 + MARGIN + WINDOW
end

local function tokens_wait(counted, needed, limit)
  local used, seconds = 0, {}
  for second, tokens in pairs(counted) do
    if forgotten_at(second) <= now then
      counted[second] = nil
    else
      used = used + tokens
      seconds[#seconds + 1] = second
    end
  end
  local room = math.max(limit - needed, 0) -- what is more than a minute's tokens goes alone
  if used <= room then
    return 0
  end
  table.sort(seconds)
  for _, second in ipairs(seconds) do
    used = used - counted[second]
    if used <= room then
      return forgotten_at(second) - now
    end
  end
  return WINDOW
end

-- Seconds until the quotas have room for the request; 0 for now.
local function limits_wait(limits)
  local wait = 0
  if asked.tokens_per_minute then
    wait = tokens_wait(limits.tokens, asked.tokens, asked.tokens_per_minute)
  end
  if asked.request_spacing then
    wait = math.max(wait, limits.next - now)
  end
  return wait > ROUNDING and wait or 0
end

local function count_tokens(limits, second, tokens)
  if tokens ~= 0 and forgotten_at(second) > now then
    limits.tokens[second] = math.max((limits.tokens[second] or 0) + tokens, 0)
  end
end

-- Requests are spaced evenly: the service counts them over 1 or 10 seconds, and refuses a burst.
local function limits_enter(limits, permit)
  if asked.tokens_per_minute then
    permit.second, permit.tokens = math.floor(now), asked.tokens
    count_tokens(limits, permit.second, asked.tokens)
  end
  if asked.request_spacing then
    limits.next = math.max(limits.next, now) + asked.request_spacing
  end
end

-- `tokens` is what was used after all; nil keeps what was reserved. The pace of requests stays.
local function limits_leave(limits, permit, tokens)
  if permit.tokens and tokens then
    count_tokens(limits, permit.second, tokens - permit.tokens)
  end
end
