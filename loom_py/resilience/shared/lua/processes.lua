-- Which processes are alive, and what the dead ones still hold.

local SWEEP = 32 -- permits taken back at a time, so that no call waits for many

local function permits_key(process)
  return base .. "permits:" .. process
end

-- A permit whose process says nothing any more: its places are free, its money counts as spent. If the
-- process was only cut off, it may still tell what was spent.
local function take_back_permit(id, permit)
  local state = deployment(permit.deployment)
  if permit.generation then
    let_go(state.breaker, permit.generation)
  end
  limits_leave(state.limits, permit, 0)
  if #permit.held > 0 then
    give_up(permit.held)
    redis.call("SET", base .. "lost:" .. id, cmsgpack.pack(permit.held), "EX", DAY)
  end
end

local function sweep()
  local dead = redis.call("ZRANGEBYSCORE", base .. "processes", "-inf", string.format("%.17g", now), "LIMIT", 0, 1)[1]
  if not dead then
    return
  end
  local key = permits_key(dead)
  local found = redis.call("HSCAN", key, "0", "COUNT", SWEEP)[2]
  for index = 1, math.min(#found, 2 * SWEEP), 2 do
    take_back_permit(found[index], cmsgpack.unpack(found[index + 1]))
    redis.call("HDEL", key, found[index])
  end
  if redis.call("EXISTS", key) == 0 then
    redis.call("ZREM", base .. "processes", dead)
  end
end

-- The process that asks is alive.
local function beat()
  redis.call("ZADD", base .. "processes", string.format("%.17g", now + asked.lease), asked.process)
  sweep()
end

local function alive()
  return redis.call("ZCOUNT", base .. "processes", string.format("(%.17g", now), "+inf")
end

local function answer(reply)
  save_deployments()
  reply.changes = #changes > 0 and changes or nil
  reply.processes = alive()
  return cjson.encode(reply)
end
