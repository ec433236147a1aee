package queue

// base starts every key of one queue. All share the hash tag {name}, so that on
// Redis Cluster they live on one node and a script may touch all of them.
type base string

func baseOf(name string) base { return base("leafserve:{" + name + "}:") }

// keysLua names every key for the scripts, which take the base as KEYS[1]; the
// methods below are those that Go reads by itself. A level is "PRIORITY:MODEL", a
// lane "PRIORITY:CLIENT:MODEL", a kin "MODEL:BATCH-KEY", a place
// (10 − priority)·2^44 + sequence number, and a member "WORKER MODEL MODEL…" with
// tabs between. Times are Unix microseconds.
const keysLua = `
local base = KEYS[1]
local job     = base .. 'job:'     -- + id: hash, the job's record (record.go)
local events  = base .. 'events:'  -- + id: capped stream, the job's events
local tomb    = base .. 'tomb:'    -- + id: string, outlives the record and says that it existed
local index   = base .. 'index:'   -- + state: sorted set of ids, all with score 0, so in the order of ids, which is that of creation
local mine    = base .. 'mine:'    -- + client: the same for the jobs of one client
local waiting = base .. 'waiting'  -- sorted set: ids that can be claimed, by place
local models  = base .. 'models'   -- set of the models that have waiting jobs
local levels  = base .. 'levels:'  -- + model: sorted set of the priorities that have waiting jobs
local turn    = base .. 'turn:'    -- + level: sorted set of the clients that have waiting jobs, by virtual time
local fair    = base .. 'fair:'    -- + priority: hash, virtual time by client, and under '' of the client served last; gone when nobody waits
local lane    = base .. 'lane:'    -- + lane: sorted set of waiting ids, by sequence number
local mates   = base .. 'mates:'   -- + kin: set of waiting ids that may run together
local later   = base .. 'later'    -- sorted set: ids that wait for a time, by it
local due     = base .. 'due'      -- sorted set: queued ids with a deadline, by it
local claims  = base .. 'claims'   -- stream with the consumer group "workers": an entry a running job; its idle time is that of the lease
local looked  = base .. 'looked'   -- string that expires: leases were looked through a moment ago
local asked   = base .. 'asked:'   -- + worker: string that expires, "NONCE ID ID…": its last claim and what it was given
local dead    = base .. 'dead'     -- sorted set: ids of dead letters, by their end
local ended   = base .. 'ended'    -- list: "STATE ID CLIENT" in the order of ends, to clean the indexes
local idem    = base .. 'idem:'    -- + hash of client and idempotency key: string "ID HASH-OF-REQUEST"
local clients = base .. 'clients'  -- hash by client: queued:, running: counts; weight:, most: how many may run; tokens:, filled: of its rate
local workers = base .. 'workers'  -- sorted set: members, by when last heard of
local idle    = base .. 'idle'     -- sorted set: members that were given no job, by when that was
local stats   = base .. 'stats'    -- hash: seq, the last sequence number; bytes of waiting requests; mean_us of a successful run; paused; draining; ended:STATE:KIND counts
local news    = base .. 'news'     -- Pub/Sub channel: topics in which something has changed (hub.go)
`

func (b base) job(id string) string      { return string(b) + "job:" + id }
func (b base) events(id string) string   { return string(b) + "events:" + id }
func (b base) tomb(id string) string     { return string(b) + "tomb:" + id }
func (b base) index(state string) string { return string(b) + "index:" + state }
func (b base) mine(client string) string { return string(b) + "mine:" + client }
func (b base) idem(hash string) string   { return string(b) + "idem:" + hash }
func (b base) waiting() string           { return string(b) + "waiting" }
func (b base) dead() string              { return string(b) + "dead" }
func (b base) workers() string           { return string(b) + "workers" }
func (b base) idle() string              { return string(b) + "idle" }
func (b base) stats() string             { return string(b) + "stats" }
func (b base) ping() string              { return string(b) + "ping" } // string that expires: written to see that one can, and for WAIT
func (b base) news() string              { return string(b) + "news" }

// Topics of the news channel. Each message is one topic and says no more than
// "look again"; the truth is in the keys.
const (
	topicWork   = "work"   // a job can be claimed
	topicCancel = "cancel" // a running job is to stop
	topicJob    = "job:"   // + id: that job has a new event
)
