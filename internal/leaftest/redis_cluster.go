package leaftest

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RedisCluster is a Redis Cluster that belongs to one test.
type RedisCluster struct {
	Nodes []*RedisServer // the masters, then their replicas in the same order

	t testing.TB
	g *Guard
}

const (
	slots   = 16384
	masters = 3
)

// Cluster starts a cluster of three masters on loopback, behind g if that is
// not nil, and returns when it takes writes, about two seconds later. It ends
// with the test.
func Cluster(t testing.TB, g *Guard) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t, g: g}
	for i := range masters {
		node := c.start().Admin()
		try(t, node.Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		try(t, node.ClusterAddSlotsRange(t.Context(), i*slots/masters, (i+1)*slots/masters-1).Err())
	}
	c.meet()
	return c
}

// ReplicatedCluster is Cluster with a replica of every master, which takes the
// master's place a second after it fell silent.
func ReplicatedCluster(t testing.TB) *RedisCluster {
	t.Helper()
	c := Cluster(t, nil)
	for range masters {
		c.start()
	}
	c.meet()
	for i, master := range c.Nodes[:masters] {
		id, err := master.Admin().ClusterMyID(t.Context()).Result()
		try(t, err)
		try(t, c.Nodes[masters+i].Admin().ClusterReplicate(t.Context(), id).Err())
	}
	c.InStep()
	for _, node := range c.Nodes { // only now, as it also bounds how long they may take to meet
		try(t, node.Admin().ConfigSet(t.Context(), "cluster-node-timeout", "1000").Err())
	}
	return c
}

// start adds a node, which knows no other yet.
func (c *RedisCluster) start() *RedisServer {
	c.t.Helper()
	node := GuardedRedis(c.t, c.g, "--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")
	c.Nodes = append(c.Nodes, node)
	return node
}

// meet makes the nodes known to each other.
func (c *RedisCluster) meet() {
	c.t.Helper()
	host, port, err := net.SplitHostPort(c.Nodes[0].Addr)
	try(c.t, err)
	for _, node := range c.Nodes[1:] {
		try(c.t, node.Admin().ClusterMeet(c.t.Context(), host, port).Err())
	}
	c.settled()
}

// settled waits until all nodes know each other and take writes.
func (c *RedisCluster) settled() {
	c.t.Helper()
	known := "cluster_known_nodes:" + strconv.Itoa(len(c.Nodes))
	for _, node := range c.Nodes {
		Eventually(c.t, "the cluster takes writes", func(ctx context.Context) bool {
			info := node.Admin().ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, known)
		})
	}
}

// InStep waits until all nodes take writes and every replica follows a master.
func (c *RedisCluster) InStep() {
	c.t.Helper()
	c.settled()
	Eventually(c.t, "the replicas are in step", func(ctx context.Context) bool {
		following := 0
		for _, node := range c.Nodes {
			following += strings.Count(node.Admin().Info(ctx, "replication").Val(), "state=online")
		}
		return following == len(c.Nodes)-masters
	})
}

// Master is the node that has key, as one that is up knows.
func (c *RedisCluster) Master(key string) *RedisServer {
	c.t.Helper()
	i := slices.IndexFunc(c.Nodes, (*RedisServer).Up)
	admin := c.Nodes[i].Admin()
	slot, err := admin.ClusterKeySlot(c.t.Context(), key).Result()
	try(c.t, err)
	ranges, err := admin.ClusterSlots(c.t.Context()).Result()
	try(c.t, err)
	for _, r := range ranges {
		if r.Start <= int(slot) && int(slot) <= r.End {
			return c.Nodes[slices.IndexFunc(c.Nodes, func(s *RedisServer) bool { return s.Addr == r.Nodes[0].Addr })]
		}
	}
	c.t.Fatalf("no node has slot %d of %s", slot, key)
	return nil
}

// URL is the address as queue.Connect takes it.
func (c *RedisCluster) URL() string {
	return c.g.url("+cluster", addresses(c.Nodes), "", "")
}

func addresses(servers []*RedisServer) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Addr)
	}
	return strings.Join(all, ",")
}

func try(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually looks again and again until ok, and fails the test after a minute.
func Eventually(t testing.TB, what string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !ok(ctx) {
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
