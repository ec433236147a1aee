package queue

import "github.com/redis/go-redis/v9"

// Every change of a job is one Lua script, so it happens whole or not at all.
// All scripts take the queue's base as KEYS[1] (keys.go) and begin with the same
// arguments; each adds its own from ARGV[5] on.
//
//	ARGV[1] id      the job, "" where the script picks it
//	ARGV[2] cap     events kept a job, about
//	ARGV[3] ttl     milliseconds that a record outlives its terminal state
//	ARGV[4] deadTTL the same for a dead letter
//
// Time is Redis's own, so no other clock matters. JSON is never taken apart in
// Lua: its numbers cannot hold a 64-bit seed. Numbers above 2^46 go back into
// Redis through whole(), as Lua writes 14 digits only.
const prelude = keysLua + `
local id, cap, ttl, deadTTL = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local function whole(n) return string.format('%.0f', n) end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) -- Unix microseconds

local function field(id, name) return redis.call('HGET', job .. id, name) end
local function fields(id, ...) return unpack(redis.call('HMGET', job .. id, ...)) end

local function laneOf(priority, client, model) return lane .. priority .. ':' .. client .. ':' .. model end

local function emit(id, kind, data)
  redis.call('XADD', events .. id, 'MAXLEN', '~', cap, '*', 't', kind, 'd', data)
  redis.call('PUBLISH', news, 'job:' .. id)
end

-- count keeps how many jobs a client has queued and running, and the bytes of
-- all requests that wait.
local function count(state, client, size, by)
  if state ~= 'queued' and state ~= 'running' then return end
  local key = state .. ':' .. client
  if redis.call('HINCRBY', clients, key, by) <= 0 then redis.call('HDEL', clients, key) end
  if state == 'queued' then redis.call('HINCRBY', stats, 'bytes', by * size) end
end

local function move(id, from, to)
  local client, size = fields(id, 'client', 'size')
  redis.call('ZREM', index .. from, id)
  redis.call('ZADD', index .. to, 0, id)
  redis.call('HSET', job .. id, 'state', to)
  count(from, client, size, -1)
  count(to, client, size, 1)
end

-- enter makes a queued job claimable. A client that comes back starts at the
-- virtual time of now, so it cannot save up turns while it is away.
local function enter(id)
  local model, priority, client, batch, seq, alone = fields(id, 'model', 'priority', 'client', 'batch', 'seq', 'alone')
  local level = priority .. ':' .. model
  local place = whole((10 - tonumber(priority)) * 17592186044416 + tonumber(seq))
  redis.call('ZADD', waiting, place, id)
  redis.call('ZADD', laneOf(priority, client, model), seq, id)
  if batch ~= '' and not alone then redis.call('SADD', mates .. model .. ':' .. batch, id) end
  if not redis.call('ZSCORE', turn .. level, client) then
    local was = redis.call('HMGET', fair .. priority, '', client)
    redis.call('ZADD', turn .. level, math.max(tonumber(was[1] or 0), tonumber(was[2] or 0)), client)
    redis.call('ZADD', levels .. model, priority, priority)
    redis.call('SADD', models, model)
  end
  redis.call('PUBLISH', news, 'work')
end

-- withdraw takes an id from its lane, and its client from the turns if it was
-- the last one there.
local function withdraw(id, model, priority, client)
  local level, mylane = priority .. ':' .. model, laneOf(priority, client, model)
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', mylane, id)
  if redis.call('EXISTS', mylane) == 1 then return end
  redis.call('ZREM', turn .. level, client)
  if redis.call('EXISTS', turn .. level) == 1 then return end
  redis.call('ZREM', levels .. model, priority)
  if redis.call('EXISTS', levels .. model) == 0 then redis.call('SREM', models, model) end
  for _, other in ipairs(redis.call('SMEMBERS', models)) do
    if redis.call('EXISTS', turn .. priority .. ':' .. other) == 1 then return end
  end
  redis.call('DEL', fair .. priority)
end

-- leave undoes enter.
local function leave(id)
  local model, priority, client, batch = fields(id, 'model', 'priority', 'client', 'batch')
  if batch ~= '' then redis.call('SREM', mates .. model .. ':' .. batch, id) end
  withdraw(id, model, priority, client)
end

-- charge moves the virtual time of a waiting job's client on by the job's cost
-- over the client's weight (start-time fair queueing, Goyal et al. 1996), for all
-- models alike; with times −1, back.
local function charge(id, times)
  local model, priority, client, cost = fields(id, 'model', 'priority', 'client', 'cost')
  local time = tonumber(redis.call('ZSCORE', turn .. priority .. ':' .. model, client))
  local next = time + times * tonumber(cost) / tonumber(redis.call('HGET', clients, 'weight:' .. client) or 1)
  local served = tonumber(redis.call('HGET', fair .. priority, '') or 0)
  redis.call('HSET', fair .. priority, '', math.max(served, math.min(time, next)), client, next)
  for _, other in ipairs(redis.call('SMEMBERS', models)) do
    redis.call('ZADD', turn .. priority .. ':' .. other, 'XX', next, client)
  end
end

-- free ends the lease of a job that ran. A client whose bound is on running jobs
-- may have another one run now.
local function free(id)
  local entry, client = fields(id, 'entry', 'client')
  if entry then
    redis.call('XACK', claims, 'workers', entry)
    redis.call('XDEL', claims, entry)
    redis.call('HDEL', job .. id, 'entry')
  end
  if tonumber(redis.call('HGET', clients, 'most:' .. client) or 0) > 0 then redis.call('PUBLISH', news, 'work') end
end

-- held says whether the caller with this fence still holds job id.
local function held(id, fence)
  local state, latest = fields(id, 'state', 'fence')
  return state == 'running' and latest == fence
end

-- forget takes an ended job out of the indexes.
local function forget(id, state, client)
  redis.call('ZREM', index .. state, id)
  if client ~= '' then redis.call('ZREM', mine .. client, id) end
end

-- sweep forgets ids whose records have expired, oldest first and a few a call,
-- which is more than one call adds.
local function sweep()
  for _ = 1, 4 do
    local head = redis.call('LINDEX', ended, 0)
    if not head then break end
    local state, old, client = string.match(head, '^(%S+) (%S+) (%S*)$')
    if redis.call('EXISTS', job .. old) == 1 then break end
    redis.call('LPOP', ended)
    forget(old, state, client)
  end
  local letter = redis.call('ZRANGE', dead, 0, 0)[1]
  if letter and redis.call('EXISTS', job .. letter) == 0 then
    local client = redis.call('GET', tomb .. letter) or ''
    redis.call('ZREM', dead, letter)
    forget(letter, 'failed', client)
  end
end

-- settle writes a terminal state, and only then the event that tells of it. A
-- dead letter is a failed job that somebody should look at: it is kept longer.
local function settle(id, state, result, err, letter)
  local key = job .. id
  local was, idemKey, client = fields(id, 'state', 'idem', 'client')
  if was == 'running' then
    free(id)
  elseif redis.call('ZREM', later, id) == 0 then
    leave(id)
  end
  redis.call('ZREM', due, id)
  redis.call('HSET', key, 'result', result, 'error', err, 'finished', whole(now))
  redis.call('HINCRBY', stats, 'ended:' .. state .. ':' .. (string.match(err, '^{"kind":"([a-z_]+)"') or ''), 1)
  move(id, was, state)
  emit(id, 'done', '')
  local keep = ttl
  if letter then
    keep = deadTTL
    redis.call('ZADD', dead, whole(now), id)
  else
    redis.call('RPUSH', ended, state .. ' ' .. id .. ' ' .. client)
  end
  redis.call('PEXPIRE', key, keep)
  redis.call('PEXPIRE', events .. id, keep)
  redis.call('SET', tomb .. id, client, 'PX', keep + ttl)
  if idemKey ~= '' then redis.call('PEXPIRE', idem .. idemKey, keep) end
  sweep()
end

-- expire ends queued jobs whose time is over, a few a call.
local function expire(late)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', whole(now), 'LIMIT', 0, 64)) do
    redis.call('ZREM', due, id)
    if field(id, 'state') == 'queued' then settle(id, 'failed', '', late) end
  end
end

-- requeue makes a running job wait again, from a time on or, without one, in
-- its old place.
local function requeue(id, from)
  free(id)
  move(id, 'running', 'queued')
  redis.call('HDEL', job .. id, 'started', 'step')
  local deadline = field(id, 'deadline')
  if deadline then redis.call('ZADD', due, deadline, id) end
  if from then
    redis.call('ZADD', later, whole(from), id)
    redis.call('PUBLISH', news, 'work') -- an idle worker plans its next look
  else
    enter(id)
  end
  emit(id, 'state', '{"state":"queued","queue":{"position":' .. (redis.call('ZRANK', waiting, id) or 0) .. '}}')
end
`

func script(body string) *redis.Script { return redis.NewScript(prelude + body) }
