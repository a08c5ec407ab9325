-- Before an attempt: leave to send it, with everything reserved; or why not, with nothing reserved.
-- Said twice for the same permit, it is the same leave.

beat()

local key = permits_key(asked.process)
local packed = redis.call("HGET", key, asked.permit)
if packed then
  return answer({ verdict = "granted", wait = 0, is_probe = cmsgpack.unpack(packed).is_probe })
end
if redis.call("EXISTS", base .. "withdrawn:" .. asked.permit) == 1 then
  return answer({ verdict = "rate_limited", wait = 0, reason = "withdrawn" })
end

local name = asked.deployment
local state = deployment(name)
local breaker, throttle, limits = state.breaker, state.throttle, state.limits

local wait = asked.breaker and breaker_wait(breaker, asked.breaker) or 0
if wait > 0 then
  return answer({ verdict = "circuit_open", wait = rounded_up(wait), reason = breaker.reason })
end
wait = throttle_wait(throttle)
if wait > 0 then
  return answer({ verdict = "throttled", wait = rounded_up(wait), reason = "throttled" })
end
wait = limits_wait(limits)
if wait > 0 then
  return answer({ verdict = "rate_limited", wait = rounded_up(wait), reason = "rate limit" })
end
local short = short_account(asked.budgets)
if short then
  return answer({ verdict = "budget", wait = 0, reason = "budget", budget = short })
end

local permit = { deployment = name, is_probe = false, held = reserve(asked.budgets) }
if asked.breaker then
  permit.is_probe = breaker_enter(name, breaker)
  permit.generation = breaker.generation
end
limits_enter(limits, permit)
redis.call("HSET", key, asked.permit, cmsgpack.pack(permit))
return answer({ verdict = "granted", wait = 0, is_probe = permit.is_probe })
