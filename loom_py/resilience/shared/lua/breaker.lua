-- Circuit breakers: the same states, counts and times as the breaker of one process.

local changes = {} -- what whoever asked is to announce

local function change(name, breaker, state, cause)
  local before, before_cause = breaker.state, breaker.cause
  breaker.state, breaker.cause = state, cause
  breaker.successes, breaker.probes = 0, 0
  breaker.generation = breaker.generation + 1
  if before ~= state or before_cause ~= cause then
    local lasts = state == "open" and breaker.open_seconds < FOREVER
    changes[#changes + 1] = {
      deployment = name, before = before, after = state, failures = breaker.failures,
      open_seconds = lasts and breaker.open_seconds or nil, reason = breaker.reason,
    }
  end
end

local function open(name, breaker, cause, seconds, reason)
  if cause ~= "forced" then
    breaker.opens = breaker.opens + 1
  end
  breaker.open_seconds = seconds
  breaker.ends = now + seconds
  breaker.reason = reason
  change(name, breaker, "open", cause)
end

local function close(name, breaker)
  breaker.failures, breaker.opens = 0, 0
  breaker.reason = nil
  breaker.ends = 0
  breaker.window = { start = now, slot = 0, parts = {} }
  change(name, breaker, "closed", nil)
end

local function trip(name, breaker, config, reason)
  local doubled = config.open_seconds * 2 ^ math.min(breaker.opens, 60)
  local most = math.max(config.max_open_seconds, config.open_seconds)
  open(name, breaker, "failures", math.min(doubled, most), reason)
end

-- Seconds until a call is let through; 0 for now.
local function breaker_wait(breaker, config)
  if breaker.state == "closed" then
    return 0
  elseif breaker.cause == "forced" then
    return FOREVER
  elseif breaker.state == "open" then
    return math.max(0, breaker.ends - now)
  end
  local places = breaker.cause == "taken out" and 1 or config.half_open_probes
  return breaker.probes < places and 0 or PROBE_SECONDS
end

-- A call is let through; whether it is a probe.
local function breaker_enter(name, breaker)
  if breaker.state == "closed" then
    return false
  end
  if breaker.state == "open" then
    change(name, breaker, "half-open", breaker.cause)
  end
  breaker.probes = breaker.probes + 1
  return true
end

-- Forgets what is too old; the calls and failures that are left.
local function move_window(window, config)
  local width = config.window_seconds / BUCKETS
  if now >= window.start + (window.slot + 1) * width then
    window.slot = math.max(window.slot + 1, math.floor((now - window.start) / width))
  end
  local calls, failures, kept = 0, 0, {}
  for _, part in ipairs(window.parts) do
    if part[1] > window.slot - BUCKETS then
      kept[#kept + 1] = part
      calls, failures = calls + part[2], failures + part[3]
    end
  end
  window.parts = kept
  return calls, failures
end

-- Counts a call; the calls and failures in the window now.
local function count_call(window, config, failed)
  local calls, failures = move_window(window, config)
  local part = window.parts[#window.parts]
  if not part or part[1] ~= window.slot then
    part = { window.slot, 0, 0 }
    window.parts[#window.parts + 1] = part
  end
  local failure = failed and 1 or 0
  part[2], part[3] = part[2] + 1, part[3] + failure
  return calls + 1, failures + failure
end

local function check_rate(name, breaker, config, calls, failures)
  if not config.failure_rate or failures == 0 or calls < config.minimum_calls then
    return
  end
  if failures / calls >= config.failure_rate then
    local reason = string.format("%d of %d calls within %g s failed", failures, calls, config.window_seconds)
    trip(name, breaker, config, reason)
  end
end

local function succeed(name, breaker, config)
  if breaker.state == "closed" then
    breaker.failures = 0
    check_rate(name, breaker, config, count_call(breaker.window, config, false))
    return
  end
  breaker.probes = breaker.probes - 1
  breaker.successes = breaker.successes + 1
  if breaker.cause == "taken out" or breaker.successes >= config.success_threshold then
    close(name, breaker)
  end
end

local function fail(name, breaker, config)
  breaker.failures = breaker.failures + 1
  if breaker.cause == "taken out" then
    local most = math.max(breaker.open_seconds, MAX_SECONDS_OUT)
    open(name, breaker, "taken out", math.min(2 * breaker.open_seconds, most), breaker.reason)
  elseif breaker.state == "half-open" then
    trip(name, breaker, config, "a failed probe")
  else
    local calls, failures = count_call(breaker.window, config, true)
    if breaker.failures >= config.failure_threshold then
      trip(name, breaker, config, string.format("%d failures in a row", breaker.failures))
    else
      check_rate(name, breaker, config, calls, failures)
    end
  end
end

local function take_out(name, breaker, seconds, reason)
  if breaker.cause == "forced" then
    return
  end
  if breaker.cause == "taken out" and breaker.state == "open" then
    breaker.ends = math.max(breaker.ends, now + seconds)
    breaker.open_seconds = math.max(breaker.open_seconds, seconds)
    breaker.reason = reason
    return
  end
  if breaker.cause == "taken out" then
    seconds = math.min(math.max(seconds, 2 * breaker.open_seconds), math.max(seconds, MAX_SECONDS_OUT))
  end
  open(name, breaker, "taken out", seconds, reason)
end

local function let_go(breaker, generation)
  if generation == breaker.generation and breaker.state == "half-open" then
    breaker.probes = breaker.probes - 1
  end
end

-- A call of `generation` is over. One that was begun before the state changed tells of another time.
local function breaker_leave(name, breaker, generation, outcome)
  if generation ~= breaker.generation then
    return
  end
  if outcome == "take_out" then
    take_out(name, breaker, asked.take_out_seconds, asked.take_out_reason)
  elseif outcome == "success" and asked.breaker then
    succeed(name, breaker, asked.breaker)
  elseif outcome == "failure" and asked.breaker then
    fail(name, breaker, asked.breaker)
  else
    let_go(breaker, generation)
  end
end
