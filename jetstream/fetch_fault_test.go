package jetstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/secret"
)

// fetching starts a server with a stream S that is larger than what a server sends ahead, and has begun to fetch it.
func fetching(t *testing.T, way jetstream.FetchWay, idle time.Duration) (*natsd.Server, nats.JetStreamContext, *jetstream.Conn, *jetstream.Fetch) {
	t.Helper()
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
	publish(t, js, "s", 4_000, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	f, err := c.Fetch(t.Context(), "S", 1, math.MaxUint64, jetstream.FetchOptions{Way: way, IdleTimeout: idle})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	for seq := uint64(1); seq <= 10; seq++ {
		if m, err := f.Next(); err != nil || m.Seq != seq {
			t.Fatalf("message %v, error %v", m, err)
		}
	}
	return server, js, c, f
}

// inBothWays runs a test for each way to fetch.
func inBothWays(t *testing.T, f func(t *testing.T, way jetstream.FetchWay)) {
	for name, way := range fetchWays {
		t.Run(name, func(t *testing.T) { f(t, way) })
	}
}

// TestFetchOfAStreamThatShrinks deletes and purges while messages are fetched. What is left comes.
func TestFetchOfAStreamThatShrinks(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		_, js, _, f := fetching(t, way, time.Minute)
		for _, seq := range []uint64{11, 200, 3_750, 4_000} {
			if err := js.DeleteMsg("S", seq); err != nil {
				t.Fatal(err)
			}
		}
		if err := js.PurgeStream("S", &nats.StreamPurgeRequest{Sequence: 3_500}); err != nil {
			t.Fatal(err)
		}
		publish(t, js, "s", 10, 10) // not of the range
		raw, err := rest(f)
		if err != nil {
			t.Fatal(err)
		}
		var late []uint64
		for _, one := range raw {
			if seq := sequenceOf(t, one); seq >= 3_500 {
				late = append(late, seq)
			}
		}
		if len(raw) > 3_900 || len(late) != 499 || late[0] != 3_500 || late[498] != 3_999 || slices.Contains(late, 3_750) {
			t.Errorf("%d messages, %d of them left", len(raw), len(late))
		}
		noConsumers(t, js, "S")
	})
}

func TestFetchOfADeletedStream(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		_, js, c, f := fetching(t, way, 300*time.Millisecond)
		if err := js.DeleteStream("S"); err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Second, func() {
			_, err := rest(f)
			wantError(t, err, jetstream.ErrStreamNotFound)
			_, again := f.Next()
			wantError(t, again, jetstream.ErrStreamNotFound)
		})
		_, err := c.Fetch(t.Context(), "S", 1, 2, jetstream.FetchOptions{Way: way})
		wantError(t, err, jetstream.ErrStreamNotFound)
	})
}

// TestFetchLosesItsConsumer: a consumer that somebody deleted is missed, and not taken for the end.
func TestFetchLosesItsConsumer(t *testing.T) {
	checkLeaks(t)
	_, js, _, f := fetching(t, jetstream.ByConsumer, 300*time.Millisecond)
	for name := range js.ConsumerNames("S") {
		if err := js.DeleteConsumer("S", name); err != nil {
			t.Fatal(err)
		}
	}
	within(t, 20*time.Second, func() {
		_, err := rest(f)
		wantError(t, err, jetstream.ErrConsumerNotFound)
	})
}

// TestFetchOverARestart loses the server, and goes on behind what it has when the server is back.
func TestFetchOverARestart(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		dir := t.TempDir()
		first := serve(t, natsd.Options{StoreDir: dir})
		js := fill(t, first.URL())
		addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
		publish(t, js, "s", 4_000, 1_000)
		c := connect(t, jetstream.Config{Servers: first.URL(), Timeout: 20 * time.Second})
		want := stored(t, c, "S", 0, math.MaxUint64)
		f, err := c.Fetch(t.Context(), "S", 1, 4_000, jetstream.FetchOptions{Way: way})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		got := [][]byte{slices.Clone(m.Raw)}
		first.Shutdown()
		within(t, 20*time.Second, func() {
			raw, err := rest(f)
			wantError(t, err, jetstream.ErrConnectionLost)
			wantError(t, err, jetstream.ErrUnreachable)
			got = append(got, raw...)
			f.Close()
		})
		if len(got) == 4_000 {
			t.Fatal("all messages came before the server went away")
		}
		second := serve(t, natsd.Options{StoreDir: dir, Port: portOf(t, first.URL())})
		raw, err := fetched(t.Context(), c, "S", sequenceOf(t, got[len(got)-1])+1, 4_000, jetstream.FetchOptions{Way: way})
		if err != nil {
			t.Fatal(err)
		}
		equalEntries(t, append(got, raw...), want)
		noConsumers(t, fill(t, second.URL()), "S")
	})
}

// TestFetchAfterALineProvedSlow: where a line proved slow, no server sends much ahead any more. Consumers stall and
// replace each other until all is there, with windows that grow again: fewer than if each had the first one, of 2 MiB.
func TestFetchAfterALineProvedSlow(t *testing.T) {
	checkLeaks(t)
	for name, size := range map[string]int{"small": 500, "larger than any window": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, natsd.Options{MaxPayload: 8 << 20})
			js := fill(t, server.URL())
			addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
			publish(t, js, "s", 32<<20/size, size)
			c := connect(t, jetstream.Config{Servers: server.URL()})
			want := stored(t, c, "S", 0, math.MaxUint64)
			c.ProveSlow()
			created := make(chan string, 1000)
			nc, err := nats.Connect(server.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Subscribe("$JS.EVENT.ADVISORY.CONSUMER.CREATED.S.*", func(m *nats.Msg) { created <- m.Subject }); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			got, err := fetched(t.Context(), c, "S", 1, math.MaxUint64, jetstream.FetchOptions{})
			if err != nil {
				t.Fatal(err)
			}
			equalEntries(t, got, want)
			within(t, 20*time.Second, func() {
				for range 3 {
					<-created
				}
			})
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			if more := len(created); more > 6 {
				t.Errorf("%d consumers replaced each other", more+3)
			}
			noConsumers(t, js, "S")
		})
	}
}

func portOf(t *testing.T, server string) int {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestFetchOverACutLine: the server lives, the line does not.
func TestFetchOverACutLine(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		server := serve(t, natsd.Options{})
		js := fill(t, server.URL())
		addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
		publish(t, js, "s", 4_000, 1_000)
		line, cut := cuttable(t, server.URL())
		c := connect(t, jetstream.Config{Servers: line, Timeout: time.Second})
		f, err := c.Fetch(t.Context(), "S", 1, 4_000, jetstream.FetchOptions{Way: way, IdleTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Next(); err != nil {
			t.Fatal(err)
		}
		cut()
		within(t, 20*time.Second, func() {
			_, err := rest(f)
			wantError(t, err, jetstream.ErrConnectionLost)
		})
	})
}

// cuttable returns the address of a way to a server, which cut ends for good.
func cuttable(t *testing.T, server string) (line string, cut func()) {
	t.Helper()
	made := make(chan net.Conn, 10)
	line, end := relay(t, server, func(client, server net.Conn) {
		go func() { io.Copy(server, client); server.Close() }()
		go func() { io.Copy(client, server); client.Close() }()
		made <- client
	})
	cut = func() {
		end()
		for len(made) > 0 {
			(<-made).Close()
		}
	}
	t.Cleanup(cut)
	return line, cut
}

func TestFetchEndsWithItsContext(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
	publish(t, js, "s", 4_000, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		ctx, cancel := context.WithCancelCause(t.Context())
		f, err := c.Fetch(ctx, "S", 1, 4_000, jetstream.FetchOptions{Way: way})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Next(); err != nil {
			t.Fatal(err)
		}
		why := errors.New("the user has changed their mind")
		cancel(why)
		within(t, 20*time.Second, func() {
			_, err := rest(f)
			wantError(t, err, why)
		})
		noConsumers(t, js, "S")
		f.Close()
	})
}

// TestFetchClosed in the middle, while nobody waits, and twice.
func TestFetchClosed(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		_, js, _, f := fetching(t, way, time.Minute)
		if f.Received() < 10_000 {
			t.Errorf("received %d bytes", f.Received())
		}
		f.Close()
		f.Close()
		_, err := f.Next()
		wantError(t, err, jetstream.ErrClosed)
		noConsumers(t, js, "S")
	})
}

// TestFetchClosedWhileRead has a server that never answers.
func TestFetchClosedWhileRead(t *testing.T) {
	checkLeaks(t)
	inBothWays(t, func(t *testing.T, way jetstream.FetchWay) {
		server := impersonate(t, 1, 100, func(int, *delivery) {})
		c := connect(t, jetstream.Config{Servers: server.url})
		f, err := c.Fetch(t.Context(), "S", 1, 100, jetstream.FetchOptions{Way: way})
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error)
		go func() {
			_, err := f.Next()
			read <- err
		}()
		f.Close()
		within(t, 20*time.Second, func() { wantError(t, <-read, jetstream.ErrClosed) })
	})
}

// TestFetchOfStreamsThatAllowNoConsumer: the caller can tell, and ask for the messages instead.
func TestFetchOfStreamsThatAllowNoConsumer(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	c := connect(t, jetstream.Config{Servers: server.URL()})
	for name, s := range map[string]struct {
		config nats.StreamConfig
		want   error
	}{
		"QUEUE":    {nats.StreamConfig{Retention: nats.WorkQueuePolicy}, jetstream.ErrRetention},
		"INTEREST": {nats.StreamConfig{Retention: nats.InterestPolicy}, jetstream.ErrRetention},
		"FULL":     {nats.StreamConfig{MaxConsumers: 1}, jetstream.ErrResourcesExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			s.config.Name, s.config.Subjects = name, []string{name + ".>"}
			addStream(t, js, s.config)
			addConsumer(t, js, name, nats.ConsumerConfig{Durable: "d", AckPolicy: nats.AckExplicitPolicy})
			publish(t, js, name, 500, 100)
			work(t, js, name, "d", 100)
			before, err := c.Consumer(t.Context(), name, "d")
			if err != nil {
				t.Fatal(err)
			}
			want := stored(t, c, name, 0, math.MaxUint64)
			_, err = fetched(t.Context(), c, name, 1, 500, jetstream.FetchOptions{Way: jetstream.ByConsumer})
			wantError(t, err, s.want)
			got, err := fetched(t.Context(), c, name, 1, 500, jetstream.FetchOptions{Way: jetstream.ByGet})
			if err != nil {
				t.Fatal(err)
			}
			equalEntries(t, got, want)
			equalEntries(t, stored(t, c, name, 0, math.MaxUint64), want)
			after, err := c.Consumers(t.Context(), name)
			if err != nil || len(after) != 1 || after[0].Delivered != before.Delivered || after[0].AckFloor != before.AckFloor {
				t.Errorf("consumers are %+v, %v", after, err)
			}
		})
	}
}

// TestFetchOfAStreamWithLimitsForConsumers: a stream may allow consumers less idleness than a fetch would like.
func TestFetchOfAStreamWithLimitsForConsumers(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{
		Name: "S", Subjects: []string{"s.>"}, ConsumerLimits: nats.StreamConsumerLimits{InactiveThreshold: time.Second, MaxAckPending: 1},
	})
	publish(t, js, "s", 100, 10)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	if raw, err := fetched(t.Context(), c, "S", 1, 100, jetstream.FetchOptions{}); err != nil || len(raw) != 100 {
		t.Errorf("%d messages, %v", len(raw), err)
	}
}

// What a user needs to fetch, besides an inbox.
var (
	consumerPublish = []string{"$JS.API.STREAM.INFO.S", "$JS.API.CONSUMER.CREATE.S.*", "$JS.API.CONSUMER.DELETE.S.*", "$JS.FC.S.>"}
	getPublish      = []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.MSG.GET.S"}
)

func TestFetchNeedsItsPermissions(t *testing.T) {
	checkLeaks(t)
	for _, c := range []struct {
		name                  string
		way                   jetstream.FetchWay
		publishes, subscribes []string
		operation, subject    string // refused; empty: nothing
	}{
		{"consumer", jetstream.ByConsumer, consumerPublish, inboxSubscribe, "", ""},
		{"consumer, no information", jetstream.ByConsumer, without(consumerPublish, "$JS.API.STREAM.INFO.S"), inboxSubscribe, jetstream.OpPublish, "$JS.API.STREAM.INFO.S"},
		{"consumer, not created", jetstream.ByConsumer, without(consumerPublish, "$JS.API.CONSUMER.CREATE.S.*"), inboxSubscribe, jetstream.OpPublish, "$JS.API.CONSUMER.CREATE.S.*"},
		{"consumer, no flow", jetstream.ByConsumer, without(consumerPublish, "$JS.FC.S.>"), inboxSubscribe, jetstream.OpPublish, "$JS.FC.S.*"},
		{"consumer, not deleted", jetstream.ByConsumer, without(consumerPublish, "$JS.API.CONSUMER.DELETE.S.*"), inboxSubscribe, "", ""},
		{"consumer, no inbox", jetstream.ByConsumer, consumerPublish, []string{"_INBOX.>"}, jetstream.OpSubscribe, "_INBOX_bk.*"},
		{"get", jetstream.ByGet, getPublish, inboxSubscribe, "", ""},
		{"get, no message", jetstream.ByGet, without(getPublish, "$JS.API.STREAM.MSG.GET.S"), inboxSubscribe, jetstream.OpPublish, "$JS.API.STREAM.MSG.GET.S"},
		{"get, no inbox", jetstream.ByGet, getPublish, []string{"_INBOX.>"}, jetstream.OpSubscribe, "_INBOX_bk.*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, natsd.Options{Users: []natsd.User{
				{Name: "admin", Password: "x"},
				{Name: "bk", Password: "x", Publish: c.publishes, Subscribe: c.subscribes},
			}})
			js := fill(t, server.URL(), nats.UserInfo("admin", "x"))
			addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
			publish(t, js, "s", 4_000, 1_000)
			conn := connect(t, jetstream.Config{
				Servers: server.URL(), User: "bk", Password: secret.New("x"), InboxPrefix: "_INBOX_bk.", Timeout: timeoutNotToWait,
			})
			within(t, 20*time.Second, func() {
				raw, err := fetched(t.Context(), conn, "S", 1, 4_000, jetstream.FetchOptions{Way: c.way, IdleTimeout: timeoutNotToWait})
				if c.operation != "" {
					refused(t, err, c.operation, c.subject)
				} else if err != nil || len(raw) != 4_000 {
					t.Errorf("%d messages, %v", len(raw), err)
				}
			})
		})
	}
}

// TestFetchFromAHostileConsumer: whatever a server delivers, the fetch ends, and with an error unless it ended well.
func TestFetchFromAHostileConsumer(t *testing.T) {
	checkLeaks(t)
	const request, stalled = "NATS/1.0 100 FlowControl Request", "Nats-Consumer-Stalled: "
	ack := func(d *delivery, rest string) { d.as("$JS.ACK.S."+d.name+"."+rest, "") }
	for name, c := range map[string]struct {
		begin func(n int, d *delivery)
		want  int    // messages before the end
		says  string // part of the error; empty: io.EOF
	}{
		"well":                     {func(_ int, d *delivery) { d.next(3); d.next(7); d.next(20) }, 3, ""},
		"a heartbeat at the end":   {func(_ int, d *delivery) { d.next(3); d.beat("1", "4"); d.next(5); d.beat("2", "20") }, 2, ""},
		"nothing, and a heartbeat": {func(_ int, d *delivery) { d.beat("0", "20") }, 0, ""},
		"a message beyond":         {func(_ int, d *delivery) { d.next(3); d.next(21) }, 1, ""},
		"a newer reply subject":    {func(_ int, d *delivery) { d.as("$JS.ACK.hub.hash.S."+d.name+".1.20.1.5.0.random", "") }, 1, ""},
		"a time before 1970":       {func(_ int, d *delivery) { ack(d, "1.20.1.-5.0") }, 1, ""},

		"the same again":        {func(_ int, d *delivery) { d.next(3); d.nth(1, 3) }, 1, "a second time"},
		"descending":            {func(_ int, d *delivery) { d.next(9); d.next(8) }, 1, "message 8 where 10 or more was due"},
		"before the range":      {func(_ int, d *delivery) { d.next(1) }, 0, "message 1 where 2 or more was due"},
		"sequence 0":            {func(_ int, d *delivery) { d.next(0) }, 0, "message 0 where"},
		"a redelivery":          {func(_ int, d *delivery) { ack(d, "2.3.1.5.5") }, 0, "a second time"},
		"no reply subject":      {func(_ int, d *delivery) { d.as("", "") }, 0, "unknown reply subject"},
		"another consumer's":    {func(_ int, d *delivery) { d.as("$JS.ACK.S.other.1.3.1.5.5", "") }, 0, "unknown reply subject"},
		"words":                 {func(_ int, d *delivery) { ack(d, "one.two.three.x.y") }, 0, "unknown reply subject"},
		"cut short":             {func(_ int, d *delivery) { ack(d, "1.3.1") }, 0, "unknown reply subject"},
		"beyond 64 bits":        {func(_ int, d *delivery) { ack(d, "1.3.18446744073709551617.5.5") }, 0, "unknown reply subject"},
		"below 0":               {func(_ int, d *delivery) { ack(d, "1.3.-1.5.5") }, 0, "unknown reply subject"},
		"a long reply subject":  {func(_ int, d *delivery) { d.as(strings.Repeat("x", 60_000), "") }, 0, "unknown reply subject"},
		"a long subject":        {func(_ int, d *delivery) { _ = d.write("MSG " + strings.Repeat("s", 70_000)) }, 0, "a line of MSG has more than"},
		"a header beyond":       {func(_ int, d *delivery) { _ = d.write("HMSG s 2 $JS.ACK.S." + d.name + ".1.3.1.5.5 30 20\r\n") }, 0, "the header of HMSG has a size of 30"},
		"nothing but the reply": {func(_ int, d *delivery) { _ = d.control("") }, 0, "unknown reply subject"},
		"another status":        {func(_ int, d *delivery) { _ = d.control("", "NATS/1.0 409 Consumer Deleted") }, 0, "unknown reply subject"},

		"a heartbeat that says nothing": {func(_ int, d *delivery) { d.beat("", "") }, 0, "does not say where it stands"},
		"a heartbeat behind what came":  {func(_ int, d *delivery) { d.next(3); d.beat("0", "20") }, 1, "delivered 0 messages, 1 have come"},
		"heartbeats without end":        {func(_ int, d *delivery) { d.next(3); go again(func() error { return d.beat("1", "4") }) }, 1, "did not answer in time"},
		"stalled without end": {func(_ int, d *delivery) {
			go again(func() error { return d.beat("0", "1", stalled+"$JS.FC.S."+d.name+".x") })
		}, 0, "did not answer in time"},
		"requests without end": {func(_ int, d *delivery) {
			go again(func() error { return d.control("$JS.FC.S."+d.name+".x", request) })
		}, 0, "did not answer in time"},
		"nothing":                          {func(int, *delivery) {}, 0, "did not answer in time"},
		"gaps without end":                 {func(_ int, d *delivery) { d.nth(2, 3) }, 0, "again after it was replaced 3 times"},
		"heartbeats ahead of all":          {func(_ int, d *delivery) { d.beat("5", "20") }, 0, "again after it was replaced 3 times"},
		"a request elsewhere":              {func(_ int, d *delivery) { _ = d.control("victim", request) }, 0, `"victim", which is not a subject of its own`},
		"a request of another consumer":    {func(_ int, d *delivery) { _ = d.control("$JS.FC.S.other.x", request) }, 0, "not a subject of its own"},
		"stalled elsewhere":                {func(_ int, d *delivery) { d.beat("0", "1", stalled+"victim") }, 0, "not a subject of its own"},
		"stalled at a subject with spaces": {func(_ int, d *delivery) { d.beat("0", "1", stalled+"$JS.FC.S."+d.name+".x 0") }, 0, "not a subject of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := impersonate(t, 2, 20, c.begin)
			conn := connect(t, jetstream.Config{Servers: server.url, Timeout: 5 * time.Second})
			within(t, 30*time.Second, func() {
				raw, err := fetched(t.Context(), conn, "S", 2, 20, jetstream.FetchOptions{IdleTimeout: 500 * time.Millisecond})
				if len(raw) != c.want {
					t.Errorf("%d messages, want %d", len(raw), c.want)
				}
				if text := fmt.Sprint(err); c.says == "" && err != nil || c.says != "" && !strings.Contains(text, c.says) || len(text) > 1000 {
					t.Errorf("error %v, want %q", err, c.says)
				}
			})
			conn.Close()
			server.mu.Lock()
			defer server.mu.Unlock()
			for _, subject := range server.answered {
				if !strings.HasPrefix(subject, "$JS.FC.S.jetsam-fetch-") {
					t.Errorf("something was published to %s at the server's word", subject)
				}
			}
		})
	}
}

// again repeats f, not too fast, until it fails.
func again(f func() error) {
	for f() == nil {
		time.Sleep(time.Millisecond)
	}
}

// TestFetchReplacesAConsumer that lost deliveries: what comes is whole.
func TestFetchReplacesAConsumer(t *testing.T) {
	checkLeaks(t)
	server := impersonate(t, 1, 10, func(n int, d *delivery) {
		switch n {
		case 1:
			d.next(1)
			d.next(2)
			d.number++ // what was to be 3
			d.next(4)
			d.next(5)
		case 2:
			d.next(3)
			d.beat("9", "9")
		case 3:
			for seq := uint64(4); seq <= 10; seq++ {
				d.next(seq)
			}
		default:
			t.Error("one consumer too many")
		}
	})
	c := connect(t, jetstream.Config{Servers: server.url})
	raw, err := fetched(t.Context(), c, "S", 1, 10, jetstream.FetchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range raw {
		if seq := sequenceOf(t, one); seq != uint64(i+1) {
			t.Errorf("message %d has sequence %d", i, seq)
		}
	}
	if len(raw) != 10 {
		t.Errorf("%d messages", len(raw))
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	slices.Sort(server.deleted)
	if len(slices.Compact(server.deleted)) != 3 {
		t.Errorf("deleted are %q, want 3 consumers", server.deleted)
	}
}

// stream says of the stream S that it has these sequences.
func (s *script) stream(t *testing.T, first, last uint64) {
	t.Helper()
	s.answer(t, "$JS.API.STREAM.INFO.S", func([]byte) string {
		return fmt.Sprintf(`{"config":{"name":"S","retention":"limits"},"state":{"messages":%d,"first_seq":%d,"last_seq":%d}}`, last-first+1, first, last)
	})
}

// TestFetchFromAHostileAPI: answers that are none, or to something else.
func TestFetchFromAHostileAPI(t *testing.T) {
	checkLeaks(t)
	good := func(seq string) string {
		return `{"message":{"subject":"s","seq":` + seq + `,"data":"eA==","time":"2026-11-22T01:02:03.123456789Z"}}`
	}
	const missing = `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`
	for name, c := range map[string]struct {
		answer func(seq string, following bool) string
		want   int
		says   string
	}{
		"well":             {func(seq string, _ bool) string { return good(seq) }, 19, ""},
		"another sequence": {func(string, bool) string { return good("1") }, 0, "answered with message 1"},
		"a later one":      {func(string, bool) string { return good("21") }, 0, "answered with message 21"},
		"no sequence":      {func(string, bool) string { return good("0") }, 0, "no sequence"},
		"a negative one":   {func(string, bool) string { return good("-2") }, 0, "decode message"},
		"no subject":       {func(seq string, _ bool) string { return strings.Replace(good(seq), `"s"`, `""`, 1) }, 0, "no subject"},
		"a long subject": {func(seq string, _ bool) string {
			return strings.Replace(good(seq), `"s"`, `"`+strings.Repeat("s", 65537)+`"`, 1)
		}, 0, "a subject of 65537 bytes"},
		"not UTF-8":      {func(seq string, _ bool) string { return strings.Replace(good(seq), `"s"`, `"s\ufffd"`, 1) }, 0, jetstream.ErrNotVerbatim.Error()},
		"not base64":     {func(seq string, _ bool) string { return strings.Replace(good(seq), `eA==`, `e`, 1) }, 0, "decode message"},
		"a time of 9999": {func(seq string, _ bool) string { return strings.Replace(good(seq), `2026`, `9999`, 1) }, 0, "its time"},
		"no time":        {func(seq string, _ bool) string { return `{"message":{"subject":"s","seq":` + seq + `}}` }, 0, "its time"},
		"subjects twice": {func(seq string, _ bool) string {
			return strings.Replace(good(seq), `{"subject"`, `{"Subject":"t","subject"`, 1)
		}, 0, "decode message"},
		"nothing":           {func(string, bool) string { return `{}` }, 0, "the answer has none"},
		"null":              {func(string, bool) string { return `null` }, 0, "the answer has none"},
		"no JSON":           {func(string, bool) string { return strings.Repeat("x", 1000) }, 0, "decode message"},
		"an error":          {func(string, bool) string { return `{"error":{"code":500,"err_code":10000,"description":"no"}}` }, 0, "no (10000)"},
		"no message at all": {func(string, bool) string { return missing }, 0, ""},
		"cannot read on": {func(seq string, following bool) string {
			if n, _ := strconv.Atoi(seq); following || n > 5 && n < 20 {
				return missing
			}
			return good(seq)
		}, 5, ""}, // 2 to 5 and 20
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script := newScript(t)
			script.stream(t, 2, 20)
			script.answer(t, "$JS.API.STREAM.MSG.GET.S", func(request []byte) string {
				var r struct {
					Seq  json.Number `json:"seq"`
					Next string      `json:"next_by_subj"`
				}
				if err := json.Unmarshal(request, &r); err != nil {
					t.Error(err)
				}
				return c.answer(r.Seq.String(), r.Next != "")
			})
			conn := connect(t, jetstream.Config{Servers: script.url})
			within(t, 20*time.Second, func() {
				raw, err := fetched(t.Context(), conn, "S", 2, 20, jetstream.FetchOptions{Way: jetstream.ByGet, IdleTimeout: time.Minute})
				if len(raw) != c.want {
					t.Errorf("%d messages, want %d", len(raw), c.want)
				}
				if text := fmt.Sprint(err); c.says == "" && err != nil || c.says != "" && !strings.Contains(text, c.says) || len(text) > 500 {
					t.Errorf("error %v, want %q", err, c.says)
				}
			})
		})
	}
}

// TestFetchPassesOverGapsCheaply counts what is asked where nearly all is gone, and finds a server out that cannot read on.
func TestFetchPassesOverGapsCheaply(t *testing.T) {
	alive := map[uint64]bool{1: true, 2: true, 500_000: true, 999_999: true, 1_000_000: true}
	for name, broken := range map[string]bool{"sound": false, "broken": true} {
		t.Run(name, func(t *testing.T) {
			script := newScript(t)
			script.stream(t, 1, 1_000_000)
			asked := 0
			script.answer(t, "$JS.API.STREAM.MSG.GET.S", func(request []byte) string {
				var r struct {
					Seq  uint64 `json:"seq"`
					Next string `json:"next_by_subj"`
				}
				if err := json.Unmarshal(request, &r); err != nil {
					t.Error(err)
				}
				asked++
				for r.Next != "" && !broken && r.Seq < 1_000_000 && !alive[r.Seq] {
					r.Seq++
				}
				if !alive[r.Seq] || broken && r.Next != "" {
					return `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`
				}
				return fmt.Sprintf(`{"message":{"subject":"s","seq":%d,"time":"2026-11-22T01:02:03Z"}}`, r.Seq)
			})
			c := connect(t, jetstream.Config{Servers: script.url})
			raw, err := fetched(t.Context(), c, "S", 1, math.MaxUint64, jetstream.FetchOptions{Way: jetstream.ByGet})
			switch {
			case broken && (err == nil || !strings.Contains(err.Error(), "the server has message 1000000, and finds none from")):
				t.Errorf("error %v", err)
			case !broken && (err != nil || len(raw) != len(alive)):
				t.Errorf("%d messages, %v", len(raw), err)
			}
			script.nc.Close()
			if asked > 300 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

// TestFetchByASlowReader: a reader may pause for longer than any patience, the server waits.
func TestFetchByASlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 4 s")
	}
	t.Parallel()
	_, js, _, f := fetching(t, jetstream.ByConsumer, 3*time.Second)
	time.Sleep(3500 * time.Millisecond) // what is tested
	raw, err := rest(f)
	if err != nil || len(raw) != 3_990 {
		t.Errorf("%d messages, %v", len(raw), err)
	}
	noConsumers(t, js, "S")
}
