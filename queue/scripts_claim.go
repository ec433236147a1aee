package queue

// take is what claimScript and joinScript share. The client of Redis runs a
// script again when its reply was lost: the nonce says that it is the same call,
// which is then given the same jobs.
const take = `
local worker, nonce, lease = ARGV[5], ARGV[6], tonumber(ARGV[7])

-- allowed says whether a client may have one more job running.
local function allowed(client)
  local bound = tonumber(redis.call('HGET', clients, 'most:' .. client) or 0)
  return bound == 0 or tonumber(redis.call('HGET', clients, 'running:' .. client) or 0) < bound
end

-- given is what a worker is told of a job that it holds: {id, fence, microseconds
-- to its deadline or "", record as a flat list of fields and values}.
local function given(id)
  local fence, deadline = fields(id, 'fence', 'deadline')
  return {id, fence, deadline and whole(tonumber(deadline) - now) or '', redis.call('HGETALL', job .. id)}
end

-- start gives a waiting job to the worker. The fence is new at each start: all
-- that the worker writes must show it.
local function start(id)
  charge(id, 1)
  leave(id)
  move(id, 'queued', 'running')
  redis.call('ZREM', due, id)
  local client, trail = fields(id, 'client', 'trail')
  local entry = redis.call('XADD', claims, '*', 'id', id, 'client', client)
  redis.call('XREADGROUP', 'GROUP', 'workers', 'worker', 'COUNT', 1, 'STREAMS', claims, '>')
  redis.call('HINCRBY', job .. id, 'attempts', 1)
  redis.call('HDEL', job .. id, 'company')
  redis.call('HSET', job .. id, 'worker', worker, 'started', whole(now), 'step', 0, 'entry', entry, 'fence', entry .. '/' .. nonce,
    'trail', (trail or '') .. 'start\t' .. whole(now) .. '\t' .. worker .. '\n')
  emit(id, 'state', '{"state":"running"}')
end

-- told notes which jobs this call started, and gives the worker's answer.
local function told(ids)
  local rows = {}
  for i, id in ipairs(ids) do rows[i] = given(id) end
  if #ids > 0 then redis.call('SET', asked .. worker, nonce .. ' ' .. table.concat(ids, ' '), 'PX', lease) end
  return rows
end

-- gave is what the same call was given before, nil where there was none.
local function gave()
  local was = redis.call('GET', asked .. worker) or ''
  if string.match(was, '^%S+') ~= nonce then return nil end
  local rows = {}
  for id in string.gmatch(was, ' (%S+)') do
    if string.sub(field(id, 'fence') or '', -#nonce) == nonce then rows[#rows + 1] = given(id) end
  end
  return rows
end
`

// tend looks after what no other call does, a few jobs a call: those whose lease
// ran out wait again, or are dead letters after their last attempt; those whose
// time has come can be claimed; those whose time is over end.
const tend = `
local most, gaveUp, canceled, late = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]

-- The group has one consumer, whatever the number of workers: who holds a job is
-- in its record, and consumers that died leave nothing behind.
if redis.call('EXISTS', claims) == 0 then
  redis.call('XGROUP', 'CREATE', claims, 'workers', '0', 'MKSTREAM')
end

-- disown ends a lease whose job is no longer its own, or whose record is gone.
local function disown(entry, state)
  redis.call('XACK', claims, 'workers', entry[1])
  redis.call('XDEL', claims, entry[1])
  if not state then
    redis.call('ZREM', index .. 'running', entry[2][2])
    count('running', entry[2][4], 0, -1)
  end
end

-- recover takes a job from a worker that fell silent. It may be what killed that
-- worker, so it runs alone from now on. Where it was in company the attempt does
-- not count, as another may be to blame.
local function recover(entry)
  local id = entry[2][2]
  local state, attempts, stop, latest, company = fields(id, 'state', 'attempts', 'cancel', 'entry', 'company')
  if state ~= 'running' or latest ~= entry[1] then return disown(entry, state) end
  if stop then return settle(id, 'canceled', '', canceled) end
  if company then attempts = redis.call('HINCRBY', job .. id, 'attempts', -1) end
  if tonumber(attempts) >= most then return settle(id, 'failed', '', gaveUp, true) end
  redis.call('HSET', job .. id, 'alone', 1)
  requeue(id)
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

for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', whole(now), 'LIMIT', 0, 64)) do
  redis.call('ZREM', later, id)
  enter(id)
end
expire(late)
`

// choose finds the next job for a worker.
const choose = `
-- head is the job of a level whose turn it is and its client's virtual time, nil
-- where no client may have one.
local function head(priority, model)
  local level, from = priority .. ':' .. model, 0
  while true do
    local some = redis.call('ZRANGE', turn .. level, from, from + 31, 'WITHSCORES')
    if #some == 0 then return nil end
    for i = 1, #some, 2 do
      local client = some[i]
      if allowed(client) then
        local id = redis.call('ZRANGE', laneOf(priority, client, model), 0, 0)[1]
        if id and redis.call('EXISTS', job .. id) == 1 then return id, tonumber(some[i + 1]) end
        redis.call('ZREM', index .. 'queued', id or '') -- somebody else removed the record, or the lane
        withdraw(id or '', model, priority, client)
        from = -32
        break
      end
    end
    from = from + 32
  end
end

-- pick is the next job of a model, its priority and its client's virtual time.
local function pick(model)
  for _, priority in ipairs(redis.call('ZREVRANGE', levels .. model, 0, -1)) do
    local id, time = head(priority, model)
    if id then return id, tonumber(priority), time end
  end
end

-- next is the next job of all models that the worker has; of equal ones the older.
local function next(able)
  local found, top, least, first
  for _, model in ipairs(able) do
    local id, priority, time = pick(model)
    if id then
      local seq = tonumber(field(id, 'seq'))
      local sooner = not found or priority > top
      if not sooner and priority == top then sooner = time < least or (time == least and seq < first) end
      if sooner then found, top, least, first = id, priority, time, seq end
    end
  end
  return found
end
`

// claimScript gives a worker the next job: for the models that it has one of the
// highest priority, there the client with the least virtual time, of its jobs the
// oldest.
//
//	ARGV[5]  worker    who asks
//	ARGV[6]  nonce     of this call
//	ARGV[7]  lease     milliseconds
//	ARGV[8]  most      attempts allowed
//	ARGV[9]  gaveUp    error JSON of a job out of attempts
//	ARGV[10] canceled  error JSON of a canceled job
//	ARGV[11] late      error JSON of a job past its deadline
//	ARGV[12…] models that it can run
//
// Returns {"job", as given, jobs that may run together with it, other workers
// that had nothing to do a moment ago}, or {"none", microseconds to the next
// delayed job or ""}.
var claimScript = script(take + tend + choose + `
local able = {unpack(ARGV, 12)}
local me = worker .. '\t' .. table.concat(able, '\t')
redis.call('ZADD', workers, whole(now), me)
redis.call('ZREM', idle, me)
for _, key in ipairs({workers, idle}) do redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now - 4000 * lease)) end

-- rest is how many other workers with a model looked for jobs in vain lately.
local function rest(model)
  local n = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', idle, whole(now - 400 * lease), '+inf')) do
    if string.find(member .. '\t', '\t' .. model .. '\t', 1, true) then n = n + 1 end
  end
  return n
end

local before = gave()
if before and before[1] then return {'job', before[1], 0, 0} end
local id
if not redis.call('HGET', stats, 'paused') then id = next(able) end
if not id then
  redis.call('ZADD', idle, whole(now), me)
  local soon = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')[2]
  return {'none', soon and whole(math.max(1, tonumber(soon) - now)) or ''}
end
local model, batch, alone = fields(id, 'model', 'batch', 'alone')
local company = 0
if batch ~= '' and not alone then company = redis.call('SCARD', mates .. model .. ':' .. batch) - 1 end
start(id)
return {'job', told({id})[1], company, rest(model)}
`)

// joinScript gives a worker more jobs for the batch of one that it has, in the
// order in which claims would give them, but for those that do not fit. Of each
// client it looks at the first 32 jobs only.
//
//	ARGV[5] worker
//	ARGV[6] nonce  of this call
//	ARGV[7] lease  milliseconds
//	ARGV[8] id     the job that it has
//	ARGV[9] room   pictures that still fit
//
// Returns a list of what given returns.
var joinScript = script(take + `
local before = gave()
if before then return before end
local first, room = ARGV[8], tonumber(ARGV[9])
local model, batch = fields(first, 'model', 'batch')

-- fits says how many pictures a job would add, nil where it cannot join.
local function fits(id)
  local like, alone, n, deadline = fields(id, 'batch', 'alone', 'pictures', 'deadline')
  if like ~= batch or alone or tonumber(n) > room or (deadline and now > tonumber(deadline)) then return nil end
  return tonumber(n)
end

-- another is the next job that fits, and its pictures.
local function another()
  for _, priority in ipairs(redis.call('ZREVRANGE', levels .. model, 0, -1)) do
    for _, client in ipairs(redis.call('ZRANGE', turn .. priority .. ':' .. model, 0, 63)) do
      if allowed(client) then
        for _, id in ipairs(redis.call('ZRANGE', laneOf(priority, client, model), 0, 31)) do
          local n = fits(id)
          if n then return id, n end
        end
      end
    end
  end
end

local ids = {}
while room > 0 and not redis.call('HGET', stats, 'paused') do
  local id, n = another()
  if not id then break end
  room = room - n
  start(id)
  redis.call('HSET', job .. id, 'company', 1)
  redis.call('HSET', job .. first, 'company', 1)
  ids[#ids + 1] = id
end
return told(ids)
`)
