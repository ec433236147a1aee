package queue

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
// that seem idle}, or {"none", microseconds to the next delayed job or ""}. The
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
return {'none', next and whole(math.max(1, tonumber(next) - now)) or ''}
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
