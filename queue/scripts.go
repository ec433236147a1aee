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

-- enter makes a queued job claimable. A client that comes back to a level starts
-- at the virtual time of now, so it cannot save up turns while it is away.
local function enter(id)
  local model, priority, client, batch, seq, alone = fields(id, 'model', 'priority', 'client', 'batch', 'seq', 'alone')
  local level = priority .. ':' .. model
  local place = whole((10 - tonumber(priority)) * 17592186044416 + tonumber(seq))
  redis.call('ZADD', waiting, place, id)
  redis.call('ZADD', lane .. priority .. ':' .. client .. ':' .. model, seq, id)
  if batch ~= '' and not alone then redis.call('ZADD', mates .. batch, place, id) end
  if not redis.call('ZSCORE', turn .. level, client) then
    local was = redis.call('HMGET', fair .. level, '', client)
    redis.call('ZADD', turn .. level, math.max(tonumber(was[1] or 0), tonumber(was[2] or 0)), client)
    redis.call('ZADD', levels .. model, priority, priority)
    redis.call('SADD', models, model)
  end
  redis.call('PUBLISH', news, 'work')
end

-- withdraw takes an id from its lane, and its client from the turns if it was
-- the last one there.
local function withdraw(id, model, priority, client)
  local level, mylane = priority .. ':' .. model, lane .. priority .. ':' .. client .. ':' .. model
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', mylane, id)
  if redis.call('EXISTS', mylane) == 1 then return end
  redis.call('ZREM', turn .. level, client)
  if redis.call('EXISTS', turn .. level) == 1 then return end
  redis.call('ZREM', levels .. model, priority)
  redis.call('DEL', fair .. level)
  if redis.call('EXISTS', levels .. model) == 0 then redis.call('SREM', models, model) end
end

-- leave undoes enter.
local function leave(id)
  local model, priority, client, batch = fields(id, 'model', 'priority', 'client', 'batch')
  if batch ~= '' then redis.call('ZREM', mates .. batch, id) end
  withdraw(id, model, priority, client)
end

-- charge takes a turn from the client of a job that is about to leave: its
-- virtual time moves on by the job's cost over the client's weight (start-time
-- fair queueing, Goyal et al. 1996).
local function charge(id)
  local model, priority, client, cost = fields(id, 'model', 'priority', 'client', 'cost')
  local level = priority .. ':' .. model
  local time = tonumber(redis.call('ZSCORE', turn .. level, client))
  local next = time + tonumber(cost) / tonumber(redis.call('HGET', clients, 'weight:' .. client) or 1)
  local served = tonumber(redis.call('HGET', fair .. level, '') or 0)
  redis.call('HSET', fair .. level, '', math.max(served, time), client, next)
  redis.call('ZADD', turn .. level, next, client)
end

-- free ends the lease of a job that ran.
local function free(id)
  local entry = field(id, 'entry')
  if entry then
    redis.call('XACK', claims, 'workers', entry)
    redis.call('XDEL', claims, entry)
    redis.call('HDEL', job .. id, 'entry')
  end
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
  local was, again, client = fields(id, 'state', 'idem', 'client')
  if was == 'running' then
    free(id)
  elseif redis.call('ZREM', later, id) == 0 then
    leave(id)
  end
  redis.call('HSET', key, 'result', result, 'error', err, 'finished', whole(now))
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
  if again ~= '' then redis.call('PEXPIRE', idem .. again, keep) end
  sweep()
end

-- overdue says whether a job's time is over.
local function overdue(id)
  local deadline = field(id, 'deadline')
  return deadline and now > tonumber(deadline)
end

-- requeue makes a running job wait again, from a time on or, without one, in
-- its old place.
local function requeue(id, from)
  free(id)
  move(id, 'running', 'queued')
  redis.call('HDEL', job .. id, 'started', 'step')
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

// enqueueScript stores a new job. Called again with the same id (a retry after
// a lost reply) it changes nothing, but writes, so that WAIT waits for it.
//
//	ARGV[5]  base       the job as JSON, queued
//	ARGV[6]  key        hash of client and idempotency key, "" for none
//	ARGV[7]  body       hash of kind and request
//	ARGV[8]  most       jobs that may wait
//	ARGV[9]  mostBytes  bytes of requests that may wait
//	ARGV[10] notBefore  Unix microseconds, 0 for now
//	ARGV[11] timeout    microseconds to the end, 0 for no bound
//	ARGV[12] weight     the client's, "" to leave weight and running bound as they are
//	ARGV[13] running, ARGV[14] queued, ARGV[15] perMinute   the client's bounds, 0 for none
//	ARGV[16…] field, value, field, value, … of the record
//
// Returns {"new", jobs ahead, Unix microseconds of acceptance}, {"known", id of the job with that key},
// {"conflict", id} when the key was used with another request, {"draining"},
// {"rate", milliseconds to wait}, or {"full" | "bytes" | "client", mean run in
// microseconds or "", running jobs of all or of the client}.
var enqueueScript = script(`
local base, key, body, most, mostBytes = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local notBefore, timeout = tonumber(ARGV[10]), tonumber(ARGV[11])
local weight, running, queued, perMinute = ARGV[12], ARGV[13], tonumber(ARGV[14]), tonumber(ARGV[15])
local record = {}
for i = 16, #ARGV, 2 do record[ARGV[i]] = ARGV[i + 1] end
local client, size = record.client, #base

local function ahead() return redis.call('ZRANK', waiting, id) or 0 end

if redis.call('EXISTS', job .. id) == 1 then
  redis.call('HSET', job .. id, 'client', client)
  return {'new', ahead(), field(id, 'created')}
end
if key ~= '' then
  local first = redis.call('GET', idem .. key)
  if first then
    local known, hash = string.match(first, '^(%S+) (%S+)$')
    if hash ~= body then return {'conflict', known} end
    redis.call('SET', idem .. key, first, 'KEEPTTL')
    return {'known', known}
  end
end

local draining, bytes, mean, seq = unpack(redis.call('HMGET', stats, 'draining', 'bytes', 'mean_us', 'seq'))
if draining then return {'draining'} end
if redis.call('ZCARD', index .. 'queued') >= most then
  return {'full', mean or '', redis.call('ZCARD', index .. 'running')}
end
if tonumber(bytes or 0) + size > mostBytes then
  return {'bytes', mean or '', redis.call('ZCARD', index .. 'running')}
end
if queued > 0 and tonumber(redis.call('HGET', clients, 'queued:' .. client) or 0) >= queued then
  return {'client', mean or '', tonumber(redis.call('HGET', clients, 'running:' .. client) or 0)}
end
if perMinute > 0 then -- a bucket of a minute's tokens
  local tokens, filled = unpack(redis.call('HMGET', clients, 'tokens:' .. client, 'filled:' .. client))
  local level = math.min(perMinute, tonumber(tokens or perMinute) + (now - tonumber(filled or now)) * perMinute / 60e6)
  if level < 1 then return {'rate', math.ceil((1 - level) * 60e3 / perMinute)} end
  redis.call('HSET', clients, 'tokens:' .. client, tostring(level - 1), 'filled:' .. client, whole(now))
end
if weight ~= '' then redis.call('HSET', clients, 'weight:' .. client, weight, 'most:' .. client, running) end

local start = math.max(now, notBefore)
redis.call('HSET', job .. id, 'base', base, 'state', 'queued', 'created', whole(now), 'size', size,
  'seq', redis.call('HINCRBY', stats, 'seq', 1), 'idem', key, 'fence', 0, 'attempts', 0, unpack(ARGV, 16))
if timeout > 0 then redis.call('HSET', job .. id, 'deadline', whole(start + timeout)) end
redis.call('ZADD', index .. 'queued', 0, id)
if client ~= '' then redis.call('ZADD', mine .. client, 0, id) end
count('queued', client, size, 1)
if key ~= '' then redis.call('SET', idem .. key, id .. ' ' .. body) end
if start > now then
  redis.call('ZADD', later, whole(start), id)
  redis.call('PUBLISH', news, 'work')
else
  enter(id)
end
emit(id, 'state', '{"state":"queued","queue":{"position":' .. ahead() .. '}}')
return {'new', ahead(), whole(now)}
`)

// take is what claimScript and joinScript share.
const take = `
-- allowed says whether a client may have one more job running.
local function allowed(client)
  local bound = tonumber(redis.call('HGET', clients, 'most:' .. client) or 0)
  return bound == 0 or tonumber(redis.call('HGET', clients, 'running:' .. client) or 0) < bound
end

-- start gives a waiting job to the worker. Returns {id, fence, microseconds to
-- its deadline or "", record as a flat list of fields and values}.
local function start(id)
  charge(id)
  leave(id)
  move(id, 'queued', 'running')
  local entry = redis.call('XADD', claims, '*', 'id', id)
  redis.call('XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', 1, 'STREAMS', claims, '>')
  local fence = redis.call('HINCRBY', job .. id, 'fence', 1)
  redis.call('HINCRBY', job .. id, 'attempts', 1)
  local trail = (field(id, 'trail') or '') .. 'start\t' .. whole(now) .. '\t' .. worker .. '\n'
  redis.call('HSET', job .. id, 'worker', worker, 'started', whole(now), 'step', 0, 'entry', entry, 'trail', trail)
  emit(id, 'state', '{"state":"running"}')
  local deadline = field(id, 'deadline')
  return {id, tostring(fence), deadline and whole(tonumber(deadline) - now) or '', redis.call('HGETALL', job .. id)}
end
`

// claimScript gives a worker the next job: of its models' levels one of the
// highest priority, there the client with the least virtual time, of its jobs
// the oldest. Before that it looks after others, a few a call: jobs whose lease
// ran out wait again, or are dead letters after their last attempt; delayed jobs
// whose time has come are waiting.
//
//	ARGV[5]  worker    who asks
//	ARGV[6]  lease     milliseconds
//	ARGV[7]  most      attempts allowed
//	ARGV[8]  gaveUp    error JSON of a job out of attempts
//	ARGV[9]  canceled  error JSON of a canceled job
//	ARGV[10] late      error JSON of a job past its deadline
//	ARGV[11…] models that it can run
//
// Returns {"job", as start, jobs that may run together with it, other workers
// that seem idle}, or {"none", milliseconds to the next delayed job or ""}. The
// fence is larger at each claim of a job: all later calls must show it.
var claimScript = script(`
local worker, lease, most, gaveUp, canceled, late = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local able = {unpack(ARGV, 11)}
` + take + `
redis.call('ZADD', workers, whole(now), worker .. '\t' .. table.concat(able, '\t'))
redis.call('ZREMRANGEBYSCORE', workers, '-inf', whole(now - 4000 * lease))

-- The group has one consumer, whatever the number of workers: who holds a job is
-- in its record, and consumers that died leave nothing behind.
if redis.call('EXISTS', claims) == 0 then
  redis.call('XGROUP', 'CREATE', claims, 'workers', '0', 'MKSTREAM')
end

local function recover(entry)
  local id = entry[2][2]
  local state, attempts, stop, latest = fields(id, 'state', 'attempts', 'cancel', 'entry')
  if state ~= 'running' or latest ~= entry[1] then -- somebody else removed the record
    redis.call('XACK', claims, 'workers', entry[1])
    redis.call('XDEL', claims, entry[1])
  elseif stop then
    settle(id, 'canceled', '', canceled)
  elseif tonumber(attempts) >= most then
    settle(id, 'failed', '', gaveUp, true)
  else
    redis.call('HSET', job .. id, 'alone', 1) -- it may be what killed its worker
    requeue(id)
  end
end

if redis.call('SET', looked, 1, 'NX', 'PX', math.ceil(lease / 8)) then
  local from, seen = '0-0', 0
  repeat -- one call looks at ten entries a round
    local r = redis.call('XAUTOCLAIM', claims, 'workers', 'worker', lease, from, 'COUNT', 1)
    for _, entry in ipairs(r[2]) do
      recover(entry)
      seen = seen + 1
    end
    from = r[1]
  until from == '0-0' or seen == 16
  if from ~= '0-0' then redis.call('DEL', looked) end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', whole(now), 'LIMIT', 0, 16)) do
  redis.call('ZREM', later, id)
  enter(id)
end

-- head is the job of a level whose turn it is, nil where no client may have one.
local head
head = function(priority, model)
  local from = 0
  repeat
    local some = redis.call('ZRANGE', turn .. priority .. ':' .. model, from, from + 15)
    for _, client in ipairs(some) do
      if allowed(client) then
        local id = redis.call('ZRANGE', lane .. priority .. ':' .. client .. ':' .. model, 0, 0)[1]
        if redis.call('EXISTS', job .. id) == 1 then return id end
        redis.call('ZREM', index .. 'queued', id) -- somebody else removed the record
        withdraw(id, model, priority, client)
        return head(priority, model)
      end
    end
    from = from + 16
  until #some < 16
end

-- pick is the next job of a model, and its priority.
local function pick(model)
  for _, priority in ipairs(redis.call('ZREVRANGE', levels .. model, 0, -1)) do
    local id = head(priority, model)
    if id then return id, tonumber(priority) end
  end
end

-- best is the next job of all models, the older one of equal priority.
local function best()
  local found, top, first
  for _, model in ipairs(able) do
    local id, priority = pick(model)
    if id then
      local seq = tonumber(field(id, 'seq'))
      if not found or priority > top or (priority == top and seq < first) then found, top, first = id, priority, seq end
    end
  end
  return found
end

if not redis.call('HGET', stats, 'paused') then
  for _ = 1, 16 do
    local id = best()
    if not id then break end
    if overdue(id) then
      settle(id, 'failed', '', late)
    else
      local batch, alone = fields(id, 'batch', 'alone')
      local company = 0
      if batch ~= '' and not alone then company = redis.call('ZCARD', mates .. batch) - 1 end
      local idle = redis.call('ZCARD', workers) - redis.call('ZCARD', index .. 'running') - 1
      return {'job', start(id), company, math.max(0, idle)}
    end
  end
end
local next = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2]
return {'none', next and whole(math.max(0, (tonumber(next) - now) / 1000)) or ''}
`)

// joinScript gives a worker more jobs for the batch of one that it has. They
// come in the order of their places; a client's bound on running jobs holds.
//
//	ARGV[5] worker
//	ARGV[6] batch
//	ARGV[7] room   pictures that still fit
//
// Returns a list of what start returns.
var joinScript = script(`
local worker, batch, room = ARGV[5], ARGV[6], tonumber(ARGV[7])
` + take + `
local taken = {}
for _, id in ipairs(redis.call('ZRANGE', mates .. batch, 0, 4 * room)) do
  local n, client = fields(id, 'pictures', 'client')
  if not n then
    redis.call('ZREM', mates .. batch, id)
  elseif tonumber(n) <= room and allowed(client) and not overdue(id) then
    room = room - tonumber(n)
    taken[#taken + 1] = start(id)
  end
  if room == 0 then break end
end
return taken
`)

// beatScript extends the leases of a worker's running jobs.
//
//	ARGV[5] worker and its models, joined by tabs
//	ARGV[6…] id, fence, id, fence, …
//
// Returns for each "ok", "cancel" when the job is to stop, "lost" when the caller
// does not hold it any more.
var beatScript = script(`
redis.call('ZADD', workers, whole(now), ARGV[5])
local answers = {}
for i = 6, #ARGV, 2 do
  local answer = 'lost'
  if held(ARGV[i], ARGV[i + 1]) then
    local entry, stop = fields(ARGV[i], 'entry', 'cancel')
    redis.call('XCLAIM', claims, 'workers', 'worker', 0, entry, 'JUSTID')
    answer = stop and 'cancel' or 'ok'
  end
  answers[#answers + 1] = answer
end
return answers
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
// again with the same fence (a retry after a lost reply) it changes nothing, but
// writes, so that WAIT waits for it.
//
//	ARGV[5] fence
//	ARGV[6] state   succeeded, failed or canceled
//	ARGV[7] result  JSON or ""
//	ARGV[8] error   JSON or ""
//
// Returns state, or "lost".
var finishScript = script(`
local fence, state, result, err = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local was, latest, started = fields(id, 'state', 'fence', 'started')
if was == state and latest == fence then
  redis.call('HSET', job .. id, 'fence', fence)
  return state
end
if not held(id, fence) then return 'lost' end
if state == 'succeeded' then
  local took = math.max(0, now - tonumber(started))
  local mean = tonumber(redis.call('HGET', stats, 'mean_us') or took)
  redis.call('HSET', stats, 'mean_us', whole(mean + (took - mean) / 8))
end
settle(id, state, result, err)
return state
`)

// retryScript ends an attempt that failed but may succeed later: the job waits
// for a while and runs alone then, or is a dead letter after its last attempt. A
// job that was to be canceled is. Called again with the same fence it changes
// nothing.
//
//	ARGV[5] fence
//	ARGV[6] most     attempts allowed
//	ARGV[7] pause    microseconds to wait
//	ARGV[8] error    JSON, of a job out of attempts
//	ARGV[9] text     what failed, without line breaks, for operators
//	ARGV[10] canceled error JSON of a canceled job
//
// Returns the state that the job has now, or "lost".
var retryScript = script(`
local fence, most, pause = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local state, latest, attempts, stop, trail = fields(id, 'state', 'fence', 'attempts', 'cancel', 'trail')
if latest == fence and (state == 'queued' or state == 'failed') then return state end
if not held(id, fence) then return 'lost' end
redis.call('HSET', job .. id, 'trail', (trail or '') .. 'error\t' .. whole(now) .. '\t' .. ARGV[9] .. '\n')
if stop then
  settle(id, 'canceled', '', ARGV[10])
  return 'canceled'
elseif tonumber(attempts) >= most then
  settle(id, 'failed', '', ARGV[8], true)
  return 'failed'
end
redis.call('HSET', job .. id, 'alone', 1)
requeue(id, now + pause)
return 'queued'
`)

// returnScript gives a running job back, to be claimed at once and before all
// others of its client and priority; the attempt does not count. A job that was
// to be canceled is. Called again with the same fence it changes nothing.
//
//	ARGV[5] fence
//	ARGV[6] canceled error JSON of a canceled job
//
// Returns the state that the job has now, or "lost".
var returnScript = script(`
local state, latest, stop = fields(id, 'state', 'fence', 'cancel')
if latest == ARGV[5] and state == 'queued' then return state end
if not held(id, ARGV[5]) then return 'lost' end
if stop then
  settle(id, 'canceled', '', ARGV[6])
  return 'canceled'
end
redis.call('HINCRBY', job .. id, 'attempts', -1)
requeue(id)
return 'queued'
`)

// cancelScript ends a queued job and asks the worker of a running one to stop.
// A job in a terminal state is left as it is.
//
//	ARGV[5] canceled error JSON of a canceled job
//
// Returns nothing.
var cancelScript = script(`
local state = field(id, 'state')
if state == 'queued' then
  settle(id, 'canceled', '', ARGV[5])
elseif state == 'running' then
  redis.call('HSET', job .. id, 'cancel', 1)
  redis.call('PUBLISH', news, 'cancel')
end
return 'ok'
`)

// lateScript ends a job that still waits when its time is over.
//
//	ARGV[5] late error JSON of a job past its deadline
//
// Returns nothing.
var lateScript = script(`
if field(id, 'state') == 'queued' and overdue(id) then settle(id, 'failed', '', ARGV[5]) end
return 'ok'
`)

// dropScript forgets a job that has ended, or takes one out of the dead letters.
//
//	ARGV[5] what  "all", or "letter": the job stays readable for ttl
//
// Returns the state, or nil where there is no such job.
var dropScript = script(`
local state, client, again = fields(id, 'state', 'client', 'idem')
if not state or state == 'queued' or state == 'running' then return state end
local letter = redis.call('ZREM', dead, id) == 1
if ARGV[5] == 'all' then
  forget(id, state, client)
  redis.call('DEL', job .. id, events .. id)
  if again ~= '' then redis.call('DEL', idem .. again) end
elseif letter then
  redis.call('RPUSH', ended, state .. ' ' .. id .. ' ' .. client)
  redis.call('PEXPIRE', job .. id, ttl)
  redis.call('PEXPIRE', events .. id, ttl)
end
return state
`)

// statsScript gives the figures for operators: {flat list of the stats hash,
// flat list of the clients hash, flat list of the workers sorted set, queued,
// delayed, running, dead, now in microseconds, list of {model, priority, waiting
// jobs, when the oldest was accepted}}.
var statsScript = script(`
local found = {}
for _, model in ipairs(redis.call('SMEMBERS', models)) do
  for _, priority in ipairs(redis.call('ZRANGE', levels .. model, 0, -1)) do
    local n, oldest = 0, nil
    for _, client in ipairs(redis.call('ZRANGE', turn .. priority .. ':' .. model, 0, -1)) do
      local mylane = lane .. priority .. ':' .. client .. ':' .. model
      n = n + redis.call('ZCARD', mylane)
      local first = tonumber(field(redis.call('ZRANGE', mylane, 0, 0)[1], 'created') or now)
      if not oldest or first < oldest then oldest = first end
    end
    found[#found + 1] = {model, priority, n, whole(oldest or now)}
  end
end
return {redis.call('HGETALL', stats), redis.call('HGETALL', clients), redis.call('ZRANGE', workers, 0, -1, 'WITHSCORES'),
  redis.call('ZCARD', index .. 'queued'), redis.call('ZCARD', later), redis.call('ZCARD', index .. 'running'), redis.call('ZCARD', dead), whole(now), found}
`)
