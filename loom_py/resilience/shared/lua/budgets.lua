-- Budgets: sums in whole numbers of 64 bits (10^-12 USD, or tokens). Lua's numbers hold only 53 bits
-- of them, so sums are made by Redis, and compared in two halves.

local KEPT = { chat = DAY, day = 2 * DAY } -- seconds since the last call; the others are kept for good
local HALF = 1e9

local function account_key(account, unit)
  return base .. "account:" .. unit .. ":" .. account
end

local function keep(key, account)
  local seconds = KEPT[string.match(account, "^(%a+):")]
  if seconds then
    redis.call("EXPIRE", key, seconds)
  end
end

local function halves(digits)
  digits = digits or "0"
  local length = #digits
  if length <= 9 then
    return 0, tonumber(digits)
  end
  return tonumber(string.sub(digits, 1, length - 9)), tonumber(string.sub(digits, length - 8))
end

-- Whether the first two numbers are together at least as much as the last three.
local function covers(limit, extra, spent, reserved, needed)
  local high, low = 0, 0
  for index, digits in ipairs({ limit, extra, spent, reserved, needed }) do
    local sign = index <= 2 and 1 or -1
    local upper, lower = halves(digits)
    high, low = high + sign * upper, low + sign * lower
  end
  return high * HALF + low >= 0
end

local function sums_of(account, unit)
  local found = redis.call("HMGET", account_key(account, unit), "spent", "reserved", "extra", "uncertain")
  return {
    account = account, unit = unit, spent = found[1] or "0", reserved = found[2] or "0",
    extra = found[3] or "0", uncertain = found[4] or "0",
  }
end

-- The sums of the first account that has too little left, or nil.
local function short_account(claims)
  for _, claim in ipairs(claims) do
    local sums = sums_of(claim.account, claim.unit)
    if not covers(claim.limit, sums.extra, sums.spent, sums.reserved, claim.needed) then
      sums.limit = claim.limit
      return sums
    end
  end
  return nil
end

local function add(key, field, amount)
  if amount ~= "0" then
    redis.call("HINCRBY", key, field, amount)
  end
end

-- Not to below 0, where the account was forgotten meanwhile.
local function subtract(key, field, amount)
  if amount ~= "0" and redis.call("HINCRBY", key, field, "-" .. amount) < 0 then
    redis.call("HSET", key, field, "0")
  end
end

local function reserve(claims)
  local held = {}
  for index, claim in ipairs(claims) do
    local key = account_key(claim.account, claim.unit)
    redis.call("HINCRBY", key, "reserved", claim.needed)
    keep(key, claim.account)
    held[index] = { claim.account, claim.unit, claim.needed }
  end
  return held
end

-- What was held is not reserved any more.
local function unreserve(held)
  for _, claim in ipairs(held) do
    local key = account_key(claim[1], claim[2])
    subtract(key, "reserved", claim[3])
    keep(key, claim[1])
  end
end

local function spend(spent)
  for _, each in ipairs(spent) do
    local key = account_key(each.account, each.unit)
    add(key, "spent", each.amount)
    if each.uncertain then
      add(key, "uncertain", each.amount)
    end
    keep(key, each.account)
  end
end

-- Nobody will tell what these calls cost; they may have been billed.
local function give_up(held)
  unreserve(held)
  for _, claim in ipairs(held) do
    local key = account_key(claim[1], claim[2])
    add(key, "spent", claim[3])
    add(key, "uncertain", claim[3])
  end
end

-- Somebody tells after all.
local function take_back(held)
  for _, claim in ipairs(held) do
    local key = account_key(claim[1], claim[2])
    subtract(key, "spent", claim[3])
    subtract(key, "uncertain", claim[3])
    keep(key, claim[1])
  end
end
