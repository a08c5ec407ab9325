-- After an attempt: how it went, what it used and what it cost. Said twice, it counts once.

beat()

local function throttling(name)
  if asked.throttled then
    pause(deployment(name).throttle, asked.throttle_seconds)
  elseif asked.outcome == "success" then
    unthrottle(deployment(name).throttle)
  end
end

-- An attempt that went out while Redis was away: nothing was reserved for it.
local function book_unreserved(name)
  local state = deployment(name)
  if asked.tokens then
    count_tokens(state.limits, math.floor(now), asked.tokens)
  end
  if asked.outcome == "take_out" then
    take_out(name, state.breaker, asked.take_out_seconds, asked.take_out_reason)
  end
  spend(asked.spent)
  throttling(name)
end

local key = permits_key(asked.process)
local packed = redis.call("HGET", key, asked.permit)
if packed then
  local permit = cmsgpack.unpack(packed)
  local name = permit.deployment
  local state = deployment(name)
  redis.call("HDEL", key, asked.permit)
  limits_leave(state.limits, permit, asked.release and 0 or asked.tokens)
  unreserve(permit.held)
  spend(asked.spent)
  if permit.generation then
    breaker_leave(name, state.breaker, permit.generation, asked.release and "neutral" or asked.outcome)
  end
  throttling(name)
  return answer({ known = true })
end

local lost = redis.call("GET", base .. "lost:" .. asked.permit)
if lost then
  redis.call("DEL", base .. "lost:" .. asked.permit)
  take_back(cmsgpack.unpack(lost))
  spend(asked.spent)
  throttling(asked.deployment)
elseif not asked.entered or asked.release then
  -- The mark also stops a request for this permit that is still on its way.
  local is_new = redis.call("SET", base .. "withdrawn:" .. asked.permit, "1", "NX", "EX", 600)
  if is_new and not asked.release then
    book_unreserved(asked.deployment)
  end
end
return answer({ known = lost and true or false })
