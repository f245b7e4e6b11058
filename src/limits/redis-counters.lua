#!lua name=LIBRARY

--[[
The counters of one hierarchy, in steps that nothing comes between. `redis-counters.ts` says what they are for.

All keys of a hierarchy share a hash tag, so that they live on one shard:
  record   its epoch, and its clock
  leases   what is reserved: a claim each, by the end of its lease
  ended    claims whose lease ended by itself: they may still be settled
  window   one rolling window: what counts, then slots and amounts, the oldest first
  day      one group's usage of one slug on one day: requests and tokens settled, requests and tokens reserved
  totals   beside each day: `r:node` and `t:node`, what that node has settled. Only it writes them, and they only grow

A claim is text: id, time and day of admission, tokens reserved, spec, and the keys of its buckets.
A spec says what the buckets are, in the order of their keys: type (R or T), unit (S, M or D), threshold (`-`: none).

A reservation over nine buckets of three groups takes Redis 55 µs of CPU, its end 35. Numbers are packed, and a spec is read
once: with text and hashes the reservation took 77.
]]

local shapes = { S = { slot_ms = 50, slots = 20 }, M = { slot_ms = 1000, slots = 60 } }
local never = -1
local day_ms = 86400000
-- A record outlives all else of its hierarchy: while there is one, nothing has been lost.
local record_ms = 4 * day_ms
local ended_ms = 62000
local ended_at_once_max = 64
local first_bucket = 4

local function wall_clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Another process, or one that was restarted, may know less than the one before it.
local server_id = nil
local function this_server()
  if not server_id then server_id = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') end
  return server_id
end

-- The windows' clock never goes back: while the wall clock does, it stands still.
local function read_record(keys)
  local text = redis.call('GET', keys[1])
  if not text then return nil end
  local seen, ahead, whole, at = struct.unpack('<ddd', text)
  local server_ends = at + #this_server()
  if string.sub(text, at, server_ends - 1) ~= this_server() then return nil end
  local wall = wall_clock()
  ahead = ahead + math.max(0, seen - wall)
  return { epoch = string.sub(text, server_ends), whole = whole, wall = wall, ahead = ahead, now = wall + ahead,
    day = math.floor(wall / day_ms) }
end

local function write_record(keys, record)
  local text = struct.pack('<ddd', record.wall, record.ahead, record.whole) .. this_server() .. record.epoch
  redis.call('SET', keys[1], text, 'PX', record_ms)
end

-- Windows

local function open_window(key, shape, now)
  local text = redis.call('GET', key)
  local oldest = math.floor(now / shape.slot_ms) - shape.slots
  local window = { key = key, shape = shape, now = now, oldest = oldest, used = 0, slots = '' }
  if not text then return window end
  local used, start = struct.unpack('<d', text)
  while start < #text do
    local slot, amount, next_start = struct.unpack('<dd', text, start)
    if slot >= oldest then break end
    used = used - amount
    start = next_start
  end
  -- Whatever was counted, and however badly it adds up: a window that has nothing in it counts nothing.
  if start < #text then window.used, window.slots = used, string.sub(text, start) end
  return window
end

-- Gives back no more than is counted there, and what has left the window stays as it was.
local function count_in_window(window, amount, at)
  local wanted = math.floor(at / window.shape.slot_ms)
  if wanted < window.oldest then return end
  local slots = window.slots
  local before, after = #slots, ''
  while before > 0 do
    local slot, counted = struct.unpack('<dd', slots, before - 15)
    if slot <= wanted then
      after = string.sub(slots, before + 1)
      if slot == wanted then
        before = before - 16
        amount = math.max(amount, -counted)
        window.used = window.used + amount
        window.slots = string.sub(slots, 1, before) .. struct.pack('<dd', slot, counted + amount) .. after
        return
      end
      break
    end
    before = before - 16
    after = slots
  end
  if amount <= 0 then return end
  window.used = window.used + amount
  window.slots = string.sub(slots, 1, before) .. struct.pack('<dd', wanted, amount) .. after
end

local function slot_leaves_after(window, slot)
  return (slot + window.shape.slots + 1) * window.shape.slot_ms - window.now
end

local function window_fits_after(window, amount, threshold)
  local used, start, slot, counted = window.used, 1, nil, nil
  while used + amount > threshold and start < #window.slots do
    slot, counted, start = struct.unpack('<dd', window.slots, start)
    used = used - counted
  end
  return slot_leaves_after(window, slot)
end

local function window_empty_after(window)
  for start = #window.slots - 15, 1, -16 do
    local slot, counted = struct.unpack('<dd', window.slots, start)
    if counted > 0 then return slot_leaves_after(window, slot) end
  end
  return 0
end

local function write_window(window)
  local lasts_ms = 2 * (window.shape.slots + 1) * window.shape.slot_ms
  redis.call('SET', window.key, struct.pack('<d', window.used) .. window.slots, 'PX', lasts_ms)
end

-- Days: `r` and `t` are what is settled, `R` and `T` what is reserved.

local settled_field = { R = 'r', T = 't' }

local function open_day(key, number)
  local name = key .. number
  local text = redis.call('GET', name)
  local day = { key = name, number = number, r = 0, t = 0, R = 0, T = 0 }
  if text then day.r, day.t, day.R, day.T = struct.unpack('<dddd', text) end
  return day
end

local function day_lasts_ms(day, wall)
  -- A day is settled for another day after its end.
  return math.max(day_ms, (day.number + 2) * day_ms - wall)
end

local function write_day(day, wall)
  redis.call('SET', day.key, struct.pack('<dddd', day.r, day.t, day.R, day.T), 'PX', day_lasts_ms(day, wall))
end

-- What a node has settled only grows: what it says twice, or late, changes nothing.
local function raise_totals(day, node, requests, tokens, wall)
  local key = day.key .. ':totals'
  local known = redis.call('HMGET', key, 'r:' .. node, 't:' .. node)
  local known_requests, known_tokens = tonumber(known[1] or 0), tonumber(known[2] or 0)
  if requests <= known_requests and tokens <= known_tokens then return end
  requests, tokens = math.max(requests, known_requests), math.max(tokens, known_tokens)
  day.r, day.t = day.r + requests - known_requests, day.t + tokens - known_tokens
  redis.call('HSET', key, 'r:' .. node, requests, 't:' .. node, tokens)
  redis.call('PEXPIRE', key, day_lasts_ms(day, wall))
end

-- Claims

local plans, plans_known = {}, 0

local function plan_of(spec)
  local plan = plans[spec]
  if plan then return plan end
  plan = {}
  for type, unit, threshold in string.gmatch(spec, '(%u)(%u)(%S+)') do
    plan[#plan + 1] = { type = type, shape = shapes[unit], threshold = tonumber(threshold) }
  end
  if plans_known >= 1000 then plans, plans_known = {}, 0 end
  plans[spec], plans_known = plan, plans_known + 1
  return plan
end

local function new_claim(id, at, day, tokens, spec, keys)
  return { id = id, at = at, day = day, tokens = tonumber(tokens), spec = spec, plan = plan_of(spec), keys = keys,
    first_key = first_bucket }
end

local function claim_text(claim)
  return table.concat({ claim.id, claim.at, claim.day, claim.tokens, claim.spec, unpack(claim.keys, claim.first_key) },
    '\n')
end

local function read_claim(text)
  local fields = {}
  for field in string.gmatch(text, '[^\n]+') do fields[#fields + 1] = field end
  local claim = new_claim(fields[1], tonumber(fields[2]), tonumber(fields[3]), fields[4], fields[5], fields)
  claim.first_key = 6
  return claim
end

-- The counters of the claim's buckets, in their order; the requests and the tokens of a day share one.
local function open_counters(claim, now)
  local counters, days = {}, {}
  for index, bucket in ipairs(claim.plan) do
    local key = claim.keys[claim.first_key + index - 1]
    if bucket.shape then
      counters[index] = open_window(key, bucket.shape, now)
    else
      days[key] = days[key] or open_day(key, claim.day)
      counters[index] = days[key]
    end
  end
  return counters, days
end

local function write_counters(claim, counters, days, wall)
  for index, bucket in ipairs(claim.plan) do
    if bucket.shape then write_window(counters[index]) end
  end
  for _, day in pairs(days) do write_day(day, wall) end
end

-- Reserves what the claim asks for, or with sign -1 gives it back.
local function reserve(claim, counters, sign)
  for index, bucket in ipairs(claim.plan) do
    local counter, type = counters[index], bucket.type
    local amount = sign * (type == 'R' and 1 or claim.tokens)
    if bucket.shape then
      count_in_window(counter, amount, claim.at)
    else
      counter[type] = math.max(0, counter[type] + amount)
    end
  end
end

local function hold(keys, text, ends_at)
  redis.call('ZADD', keys[2], ends_at, text)
  redis.call('PEXPIRE', keys[2], record_ms)
end

local function end_leases(keys, record)
  local texts = redis.call('ZRANGE', keys[2], '-inf', record.now, 'BYSCORE', 'LIMIT', 0, ended_at_once_max)
  if #texts == 0 then return 0 end
  redis.call('ZREMRANGEBYSCORE', keys[3], '-inf', record.now)
  for _, text in ipairs(texts) do
    local claim = read_claim(text)
    local counters, days = open_counters(claim, record.now)
    reserve(claim, counters, -1)
    write_counters(claim, counters, days, record.wall)
    redis.call('ZREM', keys[2], text)
    redis.call('ZADD', keys[3], record.now + ended_ms, text)
  end
  redis.call('PEXPIRE', keys[3], ended_ms)
  return #texts
end

local function used(bucket, counter)
  if bucket.shape then return counter.used end
  return counter[settled_field[bucket.type]] + counter[bucket.type]
end

local function day_ends_after(record) return (record.day + 1) * day_ms - record.wall end

local function fits_after(claim, bucket, counter, record)
  local threshold = bucket.threshold
  if not threshold then return 0 end
  local amount = bucket.type == 'R' and 1 or claim.tokens
  if threshold == 0 or amount > threshold then return never end
  if used(bucket, counter) + amount <= threshold then return 0 end
  return bucket.shape and window_fits_after(counter, amount, threshold) or day_ends_after(record)
end

-- The bucket that the claim must wait for longest, 0 when it fits them all, and the wait.
local function longest_wait(claim, counters, record)
  local refusing, longest = 0, 0
  for index, bucket in ipairs(claim.plan) do
    local wait = fits_after(claim, bucket, counters[index], record)
    if longest ~= never and (wait == never or wait > longest) then refusing, longest = index, wait end
  end
  return refusing, longest
end

-- What a node must be told first: that the hierarchy is unknown here (and what time it is), or that it was lost and is
-- known again.
local function estranged(record, epoch)
  if not record then return { 'unknown', wall_clock() } end
  if epoch ~= '' and epoch ~= record.epoch then return { 'moved', record.epoch } end
  return nil
end

-- keys: record, leases, ended, the buckets'. arguments: epoch, id, lease in ms, tokens, spec.
-- answer: 'answered', epoch, whole, ended leases, clock, wall clock, refusing bucket (0: taken), its wait, levels
local function take(keys, arguments)
  local epoch, id, lease_ms, tokens, spec = unpack(arguments)
  local record = read_record(keys)
  local stranger = estranged(record, epoch)
  if stranger then return stranger end
  local ended = end_leases(keys, record)

  local claim = new_claim(id, record.now, record.day, tokens, spec, keys)
  local counters, days = open_counters(claim, record.now)
  local refusing, wait = longest_wait(claim, counters, record)
  if refusing == 0 then
    reserve(claim, counters, 1)
    hold(keys, claim_text(claim), record.now + lease_ms)
    write_counters(claim, counters, days, record.wall)
  end
  write_record(keys, record)

  local answer = { 'answered', record.epoch, record.whole, ended, record.now, record.wall, refusing, wait }
  for index, bucket in ipairs(claim.plan) do
    answer[#answer + 1] = used(bucket, counters[index])
    answer[#answer + 1] = bucket.shape and window_empty_after(counters[index]) or day_ends_after(record)
  end
  return answer
end

-- A claim ends: settled with what was used (recorded: 1), abandoned (recorded: 0, and days give back what they took), or
-- released (used: '-'). Said again, it changes nothing.
-- keys: as above. arguments: epoch, id, at, day, tokens, spec, used, recorded, node, then, for each of the plan's buckets
-- of a day, the node's totals of that day: requests and tokens.
local function finish(keys, arguments)
  local epoch, id, at, day, tokens, spec, used_text, recorded, node = unpack(arguments, 1, 9)
  local record = read_record(keys)
  local stranger = estranged(record, epoch)
  if stranger then return stranger end
  local claim = new_claim(id, tonumber(at), tonumber(day), tokens, spec, keys)
  local text = claim_text(claim)
  local was_live = redis.call('ZREM', keys[2], text) == 1
  local was_ended = not was_live and redis.call('ZREM', keys[3], text) == 1
  local tokens_used = tonumber(used_text)

  local days = {}
  local next_total = 10
  for index, bucket in ipairs(claim.plan) do
    local key, type = keys[first_bucket + index - 1], bucket.type
    local reserved = was_live and (type == 'R' and 1 or claim.tokens) or 0
    if not bucket.shape then
      if not days[key] then
        days[key] = open_day(key, claim.day)
        if recorded == '1' then
          raise_totals(days[key], node, tonumber(arguments[next_total]), tonumber(arguments[next_total + 1]),
            record.wall)
        end
      end
      days[key][type] = math.max(0, days[key][type] - reserved)
      next_total = next_total + 2
    elseif was_live or was_ended then
      local change = (tokens_used and (type == 'R' and 1 or tokens_used) or 0) - reserved
      if change ~= 0 then
        local window = open_window(key, bucket.shape, record.now)
        count_in_window(window, change, claim.at)
        write_window(window)
      end
    end
  end
  for _, counter in pairs(days) do write_day(counter, record.wall) end
  return { 'done' }
end

-- These claims are in flight: their leases start anew, and one that is not known here is counted.
-- keys: record, leases, ended. arguments: epoch, lease in ms, claims.
local function renew(keys, arguments)
  local record = read_record(keys)
  local stranger = estranged(record, arguments[1])
  if stranger then return stranger end
  for index = 3, #arguments do
    local text = arguments[index]
    if not redis.call('ZSCORE', keys[2], text) then
      redis.call('ZREM', keys[3], text)
      local claim = read_claim(text)
      local counters, days = open_counters(claim, record.now)
      reserve(claim, counters, 1)
      write_counters(claim, counters, days, record.wall)
    end
    hold(keys, text, record.now + arguments[2])
  end
  write_record(keys, record)
  return { 'done' }
end

-- What nodes have settled, by their own count or by the ledger's.
-- keys: of days, one for each total. arguments: four for each: day, node, requests, tokens.
local function merge(keys, arguments)
  local wall = wall_clock()
  for index, key in ipairs(keys) do
    local number, node, requests, tokens = unpack(arguments, index * 4 - 3, index * 4)
    local day = open_day(key, tonumber(number))
    raise_totals(day, node, tonumber(requests), tonumber(tokens), wall)
    write_day(day, wall)
  end
  return { 'done' }
end

-- The hierarchy is known from now on. keys: record. arguments: a new epoch, should it be lost; the latest clock that a
-- node has seen of it; and whether all that the ledger has is merged.
local function open(keys, arguments)
  local epoch, seen, whole = arguments[1], tonumber(arguments[2]), tonumber(arguments[3])
  local record = read_record(keys)
  if not record then
    local wall = wall_clock()
    record = { epoch = epoch, whole = whole, wall = wall, ahead = math.max(0, seen - wall) }
  end
  record.whole = math.max(record.whole, whole)
  write_record(keys, record)
  return { 'opened', record.epoch }
end

-- These windows were lost, and count at least what a node has last seen of them.
-- keys: record, windows'. arguments: three for each window: unit, what counted, and when.
local function recall(keys, arguments)
  local record = read_record(keys)
  if not record then return { 'unknown', wall_clock() } end
  for index = 2, #keys do
    local unit, counted, at = unpack(arguments, index * 3 - 5, index * 3 - 3)
    local window = open_window(keys[index], shapes[string.sub(unit, 1, 1)], record.now)
    count_in_window(window, math.max(0, counted - window.used), tonumber(at))
    write_window(window)
  end
  return { 'done' }
end

-- keys: record, leases, ended, days'. argument: epoch.
-- answer: 'answered', wall clock, then for each day the requests taken and the tokens settled
local function usage(keys, arguments)
  local record = read_record(keys)
  local stranger = estranged(record, arguments[1])
  if stranger then return stranger end
  end_leases(keys, record)
  write_record(keys, record)
  local answer = { 'answered', record.wall }
  for index = first_bucket, #keys do
    local day = open_day(keys[index], record.day)
    answer[#answer + 1] = day.r + day.R
    answer[#answer + 1] = day.t
  end
  return answer
end

redis.register_function('LIBRARY_take', take)
redis.register_function('LIBRARY_finish', finish)
redis.register_function('LIBRARY_renew', renew)
redis.register_function('LIBRARY_merge', merge)
redis.register_function('LIBRARY_open', open)
redis.register_function('LIBRARY_recall', recall)
redis.register_function('LIBRARY_usage', usage)
