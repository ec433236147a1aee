package queue

// beatScript extends the leases of a worker's running jobs.
//
//	ARGV[5] worker and its models, joined by tabs
//	ARGV[6…] id, fence, id, fence, …
//
// Returns for each "ok", "cancel" when the job is to stop, "lost" when the caller
// does not hold it any more.
var beatScript = script(`
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
redis.call('ZADD', workers, whole(now), ARGV[5]) -- last, as a full Redis refuses it
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
// again with the same fence (a retry after a lost reply) it changes nothing.
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
if was == state and latest == fence then return state end
if not held(id, fence) then return 'lost' end
settle(id, state, result, err) -- first, as a full Redis refuses what follows
if state == 'succeeded' then
  local took = math.max(0, now - tonumber(started))
  local mean = tonumber(redis.call('HGET', stats, 'mean_us') or took)
  redis.call('HSET', stats, 'mean_us', whole(mean + (took - mean) / 8))
end
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
if latest == fence and state ~= 'running' and state ~= 'succeeded' then return state end
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
if latest == ARGV[5] and (state == 'queued' or state == 'canceled') then return state end
if not held(id, ARGV[5]) then return 'lost' end
if stop then
  settle(id, 'canceled', '', ARGV[6])
  return 'canceled'
end
redis.call('HINCRBY', job .. id, 'attempts', -1)
requeue(id)
charge(id, -1) -- it will be charged again
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

// expireScript ends queued jobs whose time is over, a few a call.
//
//	ARGV[5] late error JSON of a job past its deadline
//
// Returns nothing.
var expireScript = script(`
expire(ARGV[5])
return 'ok'
`)

// dropScript forgets a job that has ended, or takes one out of the dead letters.
//
//	ARGV[5] what  "all", or "letter": the job stays readable for ttl
//
// Returns the state, or nil where there is no such job.
var dropScript = script(`
local state, client, idemKey = fields(id, 'state', 'client', 'idem')
if not state or state == 'queued' or state == 'running' then return state end
local letter = redis.call('ZREM', dead, id) == 1
if ARGV[5] == 'all' then
  forget(id, state, client)
  redis.call('DEL', job .. id, events .. id)
  if idemKey ~= '' then redis.call('DEL', idem .. idemKey) end
elseif letter then
  redis.call('RPUSH', ended, state .. ' ' .. id .. ' ' .. client)
  redis.call('PEXPIRE', job .. id, ttl)
  redis.call('PEXPIRE', events .. id, ttl)
  redis.call('PEXPIRE', tomb .. id, 2 * ttl)
  if idemKey ~= '' then redis.call('PEXPIRE', idem .. idemKey, ttl) end
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
      local mylane = laneOf(priority, client, model)
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
