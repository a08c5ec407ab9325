-- What every script begins with: its request, the time, and the state of deployments.
--
-- KEYS[1] is what every key begins with. It holds a hash tag, so that in a cluster all keys are in one
-- slot. ARGV[1] is the request as JSON; what is not known is left out of it. Times are in seconds. The
-- constants that the policies of one process have too are put before this: see scripts.py.

local base = KEYS[1]
local asked = cjson.decode(ARGV[1])

local FOREVER = 1e300 -- stands for infinity, which JSON does not have
local DAY = 86400

local now = asked.now -- given by tests only
if not now then
  local time = redis.call("TIME")
  now = tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function rounded_up(wait)
  if wait >= FOREVER / 2 then
    return FOREVER
  end
  return math.ceil(wait * 1000) / 1000
end

-- Generations begin at the time, so that a permit older than a forgotten breaker fits no new one.
local function new_deployment()
  return {
    breaker = {
      state = "closed", generation = math.floor(now * 1000), failures = 0, successes = 0, opens = 0,
      open_seconds = 0, ends = 0, probes = 0, window = { start = now, slot = 0, parts = {} },
    },
    throttle = { ends = 0, in_a_row = 0 },
    limits = { tokens = {}, next = 0 },
  }
end

local loaded = {}

local function deployment(name)
  local found = loaded[name]
  if not found then
    local packed = redis.call("GET", base .. "deployment:" .. name)
    found = packed and cmsgpack.unpack(packed) or new_deployment()
    loaded[name] = found
  end
  return found
end

-- Forgotten after a day without a call; what a person has forced stays.
local function save_deployments()
  for name, state in pairs(loaded) do
    local key, packed = base .. "deployment:" .. name, cmsgpack.pack(state)
    local left = math.max(state.breaker.ends, state.throttle.ends) - now
    if state.breaker.cause == "forced" or left > 1e9 then
      redis.call("SET", key, packed)
    else
      redis.call("SET", key, packed, "EX", math.ceil(math.max(left, 0)) + DAY)
    end
  end
end
