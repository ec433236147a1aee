package queue

// enqueueScript stores a new job. Called again with the same id (a retry after
// a lost reply) it changes nothing.
//
//	ARGV[5]  base       the job as JSON, queued
//	ARGV[6]  key        hash of client and idempotency key, "" for none
//	ARGV[7]  body       hash of kind and request
//	ARGV[8]  most       jobs that may wait
//	ARGV[9]  mostBytes  bytes of requests that may wait
//	ARGV[10] notBefore  Unix microseconds, 0 for now
//	ARGV[11] timeout    microseconds to the end, 0 for no bound
//	ARGV[12] late       error JSON of a job past its deadline
//	ARGV[13] weight     the client's, "" to leave weight and running bound as they are
//	ARGV[14] running, ARGV[15] queued, ARGV[16] perMinute   the client's bounds, 0 for none
//	ARGV[17…] field, value, field, value, … of the record
//
// Returns {"new", jobs ahead, Unix microseconds of acceptance}, {"known", id of the job with that key},
// {"conflict", id} when the key was used with another request, {"draining"},
// {"rate", milliseconds to wait}, or {"full" | "bytes" | "client", mean run in
// microseconds or "", running jobs of all or of the client}.
var enqueueScript = script(`
local text, key, body, most, mostBytes = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local notBefore, timeout, late = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12]
local weight, running, queued, perMinute = ARGV[13], ARGV[14], tonumber(ARGV[15]), tonumber(ARGV[16])
local record = {}
for i = 17, #ARGV, 2 do record[ARGV[i]] = ARGV[i + 1] end
local client, size = record.client, #text

local function ahead() return redis.call('ZRANK', waiting, id) or 0 end

if redis.call('EXISTS', job .. id) == 1 then
  return {'new', ahead(), field(id, 'created')}
end
if key ~= '' then
  local first = redis.call('GET', idem .. key)
  if first and redis.call('EXISTS', job .. string.match(first, '^%S+')) == 1 then
    local known, hash = string.match(first, '^(%S+) (%S+)$')
    if hash ~= body then return {'conflict', known} end
    return {'known', known}
  end
end

expire(late) -- they would hold places
sweep()
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
  local level = math.min(perMinute, tonumber(tokens or perMinute) + math.max(0, now - tonumber(filled or now)) * perMinute / 60e6)
  if level < 1 then return {'rate', math.ceil((1 - level) * 60e3 / perMinute)} end
  redis.call('HSET', clients, 'tokens:' .. client, tostring(level - 1), 'filled:' .. client, whole(now))
end
if weight ~= '' then redis.call('HSET', clients, 'weight:' .. client, weight, 'most:' .. client, running) end

local start = math.max(now, notBefore)
redis.call('HSET', job .. id, 'base', text, 'state', 'queued', 'created', whole(now), 'size', size,
  'seq', redis.call('HINCRBY', stats, 'seq', 1), 'idem', key, 'fence', 0, 'attempts', 0, unpack(ARGV, 17))
if timeout > 0 then
  redis.call('HSET', job .. id, 'deadline', whole(start + timeout))
  redis.call('ZADD', due, whole(start + timeout), id)
end
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
