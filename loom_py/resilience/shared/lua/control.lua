-- By hand: a breaker forced open or closed or looked at, a budget extended or looked at.

beat()

local command = asked.command
if command == "balance" or command == "extend" then
  if command == "extend" then
    local key = account_key(asked.account, asked.unit)
    add(key, "extra", asked.amount)
    keep(key, asked.account)
  end
  return answer({ budget = sums_of(asked.account, asked.unit) })
end

local name = asked.deployment
local state = deployment(name)
if command == "open" then
  open(name, state.breaker, "forced", FOREVER, asked.reason)
elseif command == "close" or command == "reset" then
  close(name, state.breaker)
end
if command == "reset" then
  state.throttle = { ends = 0, in_a_row = 0 }
end

local breaker = state.breaker
local reply = {
  state = breaker.state, cause = breaker.cause, reason = breaker.reason, failures = breaker.failures,
  successes = breaker.successes, opens = breaker.opens,
}
if command == "look" then
  reply.wait = rounded_up(breaker_wait(breaker, asked.breaker))
  reply.calls, reply.failed = move_window(breaker.window, asked.breaker)
end
return answer(reply)
