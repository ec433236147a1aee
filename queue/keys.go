package queue

// keys names every key of one queue. All share the hash tag {name}, so that on
// Redis Cluster they live on one node and a script may touch all of them.
type keys struct {
	jobs    string // stream: ids of jobs to run, with the consumer group "workers"; an entry goes when its job ends
	waiting string // sorted set: queued ids by sequence number, for positions and the bound
	index   string // + state: sorted set of ids with score 0, so in the order of ids, which is that of creation
	job     string // + id: hash, the job's record (fields in record.go)
	events  string // + id: capped stream, the job's events
	tomb    string // + id: string, outlives the record and says that it existed
	idem    string // + hash of an idempotency key: string "ID HASH-OF-REQUEST"
	seq     string // counter: the last sequence number
	ended   string // list: "STATE ID" in the order of ends, to clean the indexes
	stats   string // hash: mean_us, the moving mean of a successful run
	news    string // Pub/Sub channel: topics in which something has changed (hub.go)
}

func keysOf(name string) keys {
	base := "leafserve:{" + name + "}:"
	return keys{
		jobs:    base + "jobs",
		waiting: base + "waiting",
		index:   base + "index:",
		job:     base + "job:",
		events:  base + "events:",
		tomb:    base + "tomb:",
		idem:    base + "idem:",
		seq:     base + "seq",
		ended:   base + "ended",
		stats:   base + "stats",
		news:    base + "news",
	}
}

// list gives the keys and prefixes in the order in which every script takes
// them as KEYS (prelude in scripts.go).
func (k keys) list() []string {
	return []string{k.jobs, k.waiting, k.index, k.job, k.events, k.tomb, k.idem, k.seq, k.ended, k.stats, k.news}
}

// Topics of the news channel. Each message is one topic and says no more than
// "look again"; the truth is in the keys.
const (
	topicWork   = "work"   // a job can be claimed
	topicCancel = "cancel" // a running job is to stop
	topicJob    = "job:"   // + id: that job has a new event
)
