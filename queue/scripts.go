package queue

import "github.com/redis/go-redis/v9"

// Every change of a job is one Lua script, so it happens whole or not at all.
// All scripts take the same KEYS (keys.list) and begin with the same four
// arguments; each adds its own from ARGV[5] on.
//
//	ARGV[1] id      the job, "" where the script picks it
//	ARGV[2] now     caller's clock, Unix microseconds; decides timings only, as
//	                leases and expiry run on Redis's own clock
//	ARGV[3] cap     events kept a job, about
//	ARGV[4] ttl     milliseconds that a record outlives its terminal state
//
// JSON is never taken apart in Lua: its numbers cannot hold a 64-bit seed.
const prelude = `
local jobs, waiting, index, job, events, tomb, idem, seq, ended, stats, news = unpack(KEYS)
local id, now, cap, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- ready makes the stream with its group. The group has one consumer, whatever
-- the number of workers: who holds a job is in its record, and consumers that
-- died leave nothing behind.
local function ready()
  if redis.call('EXISTS', jobs) == 0 then
    redis.call('XGROUP', 'CREATE', jobs, 'workers', '0', 'MKSTREAM')
  end
end

local function emit(id, kind, data)
  redis.call('XADD', events .. id, 'MAXLEN', '~', cap, '*', 't', kind, 'd', data)
  redis.call('PUBLISH', news, 'job:' .. id)
end

local function move(id, from, to)
  redis.call('ZREM', index .. from, id)
  redis.call('ZADD', index .. to, 0, id)
  redis.call('HSET', job .. id, 'state', to)
end

-- held says whether the caller with this fence still holds job id.
local function held(id, fence)
  local r = redis.call('HMGET', job .. id, 'state', 'fence')
  return r[1] == 'running' and r[2] == fence
end

-- sweep takes ids whose records have expired out of the indexes, oldest first
-- and a few a call, which is more than one call adds.
local function sweep()
  for _ = 1, 4 do
    local head = redis.call('LINDEX', ended, 0)
    if not head then return end
    local state, old = string.match(head, '^(%S+) (%S+)$')
    if redis.call('EXISTS', job .. old) == 1 then return end
    redis.call('LPOP', ended)
    redis.call('ZREM', index .. state, old)
  end
end

-- settle writes a terminal state, and only then the event that tells of it.
local function settle(id, state, result, err)
  local key = job .. id
  local was, entry, again = unpack(redis.call('HMGET', key, 'state', 'entry', 'idem'))
  redis.call('HSET', key, 'result', result, 'error', err, 'finished', now)
  move(id, was, state)
  redis.call('ZREM', waiting, id)
  redis.call('XACK', jobs, 'workers', entry)
  redis.call('XDEL', jobs, entry)
  emit(id, 'done', '')
  redis.call('PEXPIRE', key, ttl)
  redis.call('PEXPIRE', events .. id, ttl)
  redis.call('SET', tomb .. id, state, 'PX', 2 * ttl)
  if again ~= '' then redis.call('PEXPIRE', idem .. again, ttl) end
  redis.call('RPUSH', ended, state .. ' ' .. id)
  sweep()
end
`

func script(body string) *redis.Script { return redis.NewScript(prelude + body) }

// enqueueScript stores a new job. Called again with the same id (a retry after
// a lost reply) it changes nothing.
//
//	ARGV[5] base    the job as JSON, queued
//	ARGV[6] max     queued jobs allowed
//	ARGV[7] key     hash of the idempotency key, "" for none
//	ARGV[8] body    hash of kind and request
//
// Returns {"new", jobs ahead}, {"known", id of the job with that key},
// {"conflict", id} when the key was used with another request, or
// {"busy", mean run in microseconds or "", running jobs}.
var enqueueScript = script(`
local base, max, key, body = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]
if redis.call('EXISTS', job .. id) == 1 then
  return {'new', redis.call('ZRANK', waiting, id) or 0}
end
if key ~= '' then
  local first = redis.call('GET', idem .. key)
  if first then
    local known, hash = string.match(first, '^(%S+) (%S+)$')
    if hash == body then return {'known', known} end
    return {'conflict', known}
  end
end
local ahead = redis.call('ZCARD', waiting)
if ahead >= max then
  return {'busy', redis.call('HGET', stats, 'mean_us') or '', redis.call('ZCARD', index .. 'running')}
end
ready()
local n = redis.call('INCR', seq)
local entry = redis.call('XADD', jobs, '*', 'id', id)
redis.call('HSET', job .. id, 'base', base, 'state', 'queued', 'created', now, 'seq', n,
  'entry', entry, 'idem', key, 'fence', 0, 'attempts', 0)
redis.call('ZADD', waiting, n, id)
redis.call('ZADD', index .. 'queued', 0, id)
if key ~= '' then redis.call('SET', idem .. key, id .. ' ' .. body) end
emit(id, 'state', '{"state":"queued","queue":{"position":' .. ahead .. '}}')
redis.call('PUBLISH', news, 'work')
return {'new', ahead}
`)

// claimScript gives a worker the next job: first one whose lease ran out, else
// the oldest new one. On the way it ends jobs that were canceled while nobody
// ran them and those that have used up their attempts.
//
//	ARGV[5] worker   who asks
//	ARGV[6] lease    milliseconds
//	ARGV[7] max      attempts allowed
//	ARGV[8] gaveUp   error JSON of a job out of attempts
//	ARGV[9] canceled error JSON of a canceled job
//
// Returns {id, fence, record as a flat list of fields and values}, or nil when
// there is nothing to do. The fence is larger at each claim of a job: all later
// calls must show it.
var claimScript = script(`
local worker, lease, max, gaveUp, canceled = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
ready()

local function expired()
  local from = '0-0'
  repeat -- one call looks at ten entries only
    local r = redis.call('XAUTOCLAIM', jobs, 'workers', 'worker', lease, from, 'COUNT', 1)
    if #r[2] > 0 then return r[2][1] end
    from = r[1]
  until from == '0-0'
end

local function fresh()
  local r = redis.call('XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', 1, 'STREAMS', jobs, '>')
  return r and r[1][2][1]
end

for _ = 1, 16 do
  local entry = expired() or fresh()
  if not entry then return false end
  local id = entry[2][2]
  local state, attempts, stop = unpack(redis.call('HMGET', job .. id, 'state', 'attempts', 'cancel'))
  if not state then -- somebody else removed the record
    redis.call('XACK', jobs, 'workers', entry[1])
    redis.call('XDEL', jobs, entry[1])
    redis.call('ZREM', waiting, id)
  elseif stop then
    settle(id, 'canceled', '', canceled)
  elseif tonumber(attempts) >= max then
    settle(id, 'failed', '', gaveUp)
  else
    move(id, state, 'running')
    redis.call('ZREM', waiting, id)
    local fence = redis.call('HINCRBY', job .. id, 'fence', 1)
    redis.call('HINCRBY', job .. id, 'attempts', 1)
    redis.call('HSET', job .. id, 'worker', worker, 'started', now, 'step', 0)
    emit(id, 'state', '{"state":"running"}')
    return {id, tostring(fence), redis.call('HGETALL', job .. id)}
  end
end
redis.call('PUBLISH', news, 'work') -- more may be left
return false
`)

// beatScript extends the lease of a running job.
//
//	ARGV[5] fence
//
// Returns "ok", "cancel" when the job is to stop, "lost" when the caller does
// not hold it any more.
var beatScript = script(`
if not held(id, ARGV[5]) then return 'lost' end
redis.call('XCLAIM', jobs, 'workers', 'worker', 0, redis.call('HGET', job .. id, 'entry'), 'JUSTID')
return redis.call('HGET', job .. id, 'cancel') and 'cancel' or 'ok'
`)

// progressScript appends events of a running job.
//
//	ARGV[5] fence
//	ARGV[6] step    the latest step, "" to leave it
//	ARGV[7] steps   of how many
//	ARGV[8…] type, data, type, data, …
//
// Returns "ok" or "lost".
var progressScript = script(`
if not held(id, ARGV[5]) then return 'lost' end
if ARGV[6] ~= '' then redis.call('HSET', job .. id, 'step', ARGV[6], 'steps', ARGV[7]) end
for i = 8, #ARGV, 2 do emit(id, ARGV[i], ARGV[i + 1]) end
return 'ok'
`)

// finishScript writes the terminal state, if the caller holds the job. Called
// again with the same fence (a retry after a lost reply) it changes nothing.
//
//	ARGV[5] fence
//	ARGV[6] state   succeeded, failed or canceled
//	ARGV[7] result  JSON or ""
//	ARGV[8] error   JSON or ""
//
// Returns "ok" or "lost".
var finishScript = script(`
local fence, state, result, err = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local r = redis.call('HMGET', job .. id, 'state', 'fence', 'started')
if r[1] == state and r[2] == fence then return 'ok' end
if not held(id, fence) then return 'lost' end
if state == 'succeeded' then
  local took = math.max(0, tonumber(now) - tonumber(r[3]))
  local mean = tonumber(redis.call('HGET', stats, 'mean_us') or took)
  redis.call('HSET', stats, 'mean_us', string.format('%.0f', mean + (took - mean) / 8))
end
settle(id, state, result, err)
return 'ok'
`)

// requeueScript gives a running job back, to be claimed at once and before all
// others; the attempt does not count. A job that was to be canceled is.
//
//	ARGV[5] fence
//	ARGV[6] canceled error JSON of a canceled job
//
// Returns "ok" or "lost".
var requeueScript = script(`
if not held(id, ARGV[5]) then return 'lost' end
local entry, n, stop = unpack(redis.call('HMGET', job .. id, 'entry', 'seq', 'cancel'))
if stop then
  settle(id, 'canceled', '', ARGV[6])
  return 'ok'
end
move(id, 'running', 'queued')
redis.call('HINCRBY', job .. id, 'attempts', -1)
redis.call('HDEL', job .. id, 'started', 'step')
redis.call('ZADD', waiting, n, id)
redis.call('XCLAIM', jobs, 'workers', 'worker', 0, entry, 'IDLE', 86400000, 'JUSTID') -- a lease that ran out a day ago
emit(id, 'state', '{"state":"queued","queue":{"position":' .. redis.call('ZRANK', waiting, id) .. '}}')
redis.call('PUBLISH', news, 'work')
return 'ok'
`)

// cancelScript ends a queued job and asks the worker of a running one to stop.
// A job in a terminal state is left as it is.
//
//	ARGV[5] canceled error JSON of a canceled job
//
// Returns nothing.
var cancelScript = script(`
local state = redis.call('HGET', job .. id, 'state')
if state == 'queued' then
  settle(id, 'canceled', '', ARGV[5])
elseif state == 'running' then
  redis.call('HSET', job .. id, 'cancel', 1)
  redis.call('PUBLISH', news, 'cancel')
end
return 'ok'
`)
