package leaftest

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisCluster is a Redis Cluster that belongs to one test.
type RedisCluster struct {
	Nodes []*RedisServer // all masters
}

const slots = 16384

// Cluster starts a cluster of three masters on loopback, behind g if that is
// not nil, and returns when it takes writes, about two seconds later. It ends
// with the test.
func Cluster(t testing.TB, g *Guard) *RedisCluster {
	t.Helper()
	c := &RedisCluster{}
	for range 3 {
		c.Nodes = append(c.Nodes, GuardedRedis(t, g, "--cluster-enabled", "yes"))
	}
	n := len(c.Nodes)
	admins := make([]*redis.Client, n)
	for i, node := range c.Nodes {
		admins[i] = node.Admin()
		try(t, admins[i].Do(t.Context(), "cluster", "set-config-epoch", i+1).Err())
		try(t, admins[i].ClusterAddSlotsRange(t.Context(), i*slots/n, (i+1)*slots/n-1).Err())
	}
	for _, node := range c.Nodes[1:] {
		host, port, err := net.SplitHostPort(node.Addr)
		try(t, err)
		try(t, admins[0].ClusterMeet(t.Context(), host, port).Err())
	}
	for _, admin := range admins {
		Eventually(t, "the cluster takes writes", func(ctx context.Context) bool {
			info := admin.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(n))
		})
	}
	return c
}

// URL is the address as queue.Connect takes it.
func (c *RedisCluster) URL() string {
	return c.Nodes[0].guard.url("+cluster", addresses(c.Nodes), "", "")
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
