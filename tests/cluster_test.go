package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/testserver"
)

// cluster is three servers that are one, each a process of its own, and a client of all of them.
type cluster struct {
	*source
	nodes   []*serverProcess
	options []processOptions
}

// clusterOfProcesses starts three servers that are one and can be killed. Each has a tag that is its name, and
// the first ones more in their configuration.
func clusterOfProcesses(t testing.TB, more ...string) (servers []*serverProcess, options []processOptions) {
	t.Helper()
	ports := testserver.FreePorts(t, 3)
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		o := processOptions{StoreDir: t.TempDir(), Name: fmt.Sprintf("n%d", i), Config: fmt.Sprintf(
			"cluster { name: C, listen: \"127.0.0.1:%d\", routes: [%s] }\nserver_tags: [\"n%d\"]\n", port, strings.Join(routes, ", "), i)}
		if i < len(more) {
			o.Config += more[i]
		}
		p := startProcess(t, o, nil)
		u, err := url.Parse(p.url)
		must(t, err)
		o.Port, err = strconv.Atoi(u.Port())
		must(t, err)
		servers, options = append(servers, p), append(options, o)
	}
	return servers, options
}

// newCluster starts a cluster that ends with the test.
func newCluster(t testing.TB, more ...string) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	c := &cluster{}
	c.nodes, c.options = clusterOfProcesses(t, more...)
	nc, err := nats.Connect(c.urls(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	must(t, err)
	c.source = &source{nil, nc, js}
	c.settled(t)
	return c
}

// urls are the addresses of all servers.
func (c *cluster) urls() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.url)
	}
	return strings.Join(all, ",")
}

// settled waits until all servers are there, and can store what has three replicas.
func (c *cluster) settled(t testing.TB) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		_, err := c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "PROBE", Subjects: []string{"probe"}, Replicas: 3, Storage: jetstream.MemoryStorage})
		return err
	})
	c.current(t, "PROBE")
	eventually(t, func(ctx context.Context) error { return c.js.DeleteStream(ctx, "PROBE") })
}

// current waits until all replicas of a stream have all of it.
func (c *cluster) current(t testing.TB, stream string) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		st, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		is := st.CachedInfo().Cluster
		if is.Leader == "" || len(is.Replicas)+1 != st.CachedInfo().Config.Replicas {
			return fmt.Errorf("stream %s is kept by %+v", stream, is)
		}
		for _, r := range is.Replicas {
			if !r.Current || r.Offline {
				return fmt.Errorf("stream %s is kept by %+v", stream, r)
			}
		}
		return nil
	})
}

// eventually does what may fail while servers elect their leaders.
func eventually(t testing.TB, do func(context.Context) error) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// leader is which of the servers leads a stream, or one of its consumers.
func (c *cluster) leader(t testing.TB, stream, consumer string) (node int) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		st, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		is := st.CachedInfo().Cluster
		if consumer != "" {
			o, err := st.Consumer(ctx, consumer)
			if err != nil {
				return err
			}
			is = o.CachedInfo().Cluster
		}
		node = slices.IndexFunc(c.options, func(o processOptions) bool { return o.Name == is.Leader })
		if node < 0 {
			return errors.New("nobody leads " + stream + " " + consumer)
		}
		return nil
	})
	return node
}

// stepDown has the leader of a stream, or of a consumer, give way to another. It says whether it did.
func (c *cluster) stepDown(stream, consumer string) bool {
	subject := "$JS.API.STREAM.LEADER.STEPDOWN." + stream
	if consumer != "" {
		subject = "$JS.API.CONSUMER.LEADER.STEPDOWN." + stream + "." + consumer
	}
	m, err := c.nc.Request(subject, nil, 2*time.Second)
	if err != nil {
		return false
	}
	var answer struct{ Success bool }
	return json.Unmarshal(m.Data, &answer) == nil && answer.Success
}

// make makes a stream, and waits until all of its servers have it.
func (c *cluster) make(t testing.TB, cfg jetstream.StreamConfig) {
	t.Helper()
	eventually(t, func(ctx context.Context) error {
		_, err := c.js.CreateOrUpdateStream(ctx, cfg)
		return err
	})
	c.current(t, cfg.Name)
}

// consume makes a consumer that was given the first hundred messages, and has acknowledged every second of them.
func (c *cluster) consume(t testing.TB, stream string, cfg jetstream.ConsumerConfig) {
	t.Helper()
	cfg.AckPolicy, cfg.AckWait = jetstream.AckExplicitPolicy, time.Hour
	var got []jetstream.Msg
	eventually(t, func(ctx context.Context) error {
		o, err := c.js.CreateOrUpdateConsumer(ctx, stream, cfg)
		if err != nil {
			return err
		}
		batch, err := o.FetchNoWait(100 - len(got))
		if err != nil {
			return err
		}
		for m := range batch.Messages() {
			got = append(got, m)
		}
		if len(got) < 100 {
			return fmt.Errorf("consumer %s was given %d messages", cfg.Durable, len(got))
		}
		return nil
	})
	eventually(t, func(ctx context.Context) error {
		for i, m := range got {
			if i%2 == 0 {
				_ = m.Ack()
			}
		}
		o, err := c.js.Consumer(ctx, stream, cfg.Durable)
		if err == nil && o.CachedInfo().NumAckPending != 50 {
			err = fmt.Errorf("consumer %s waits for %d messages", cfg.Durable, o.CachedInfo().NumAckPending)
		}
		return err
	})
}
