package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

func kib(int) []byte { return make([]byte, 1000) }

// now is a moment that lies well apart from what comes before and after.
func now() time.Time {
	time.Sleep(3 * time.Millisecond)
	at := time.Now()
	time.Sleep(3 * time.Millisecond)
	return at
}

// TestAsOfFates restores a stream as of a moment before which messages were removed in ways that meet, and wants what there was then.
func TestAsOfFates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config jetstream.StreamConfig
		// life publishes into the stream and calls back up, once before the moment that it returns and once after it.
		life   func(t *testing.T, src *source, st jetstream.Stream, backUp func()) (time.Time, image)
		target restore.Target
		loose  bool // the configuration need not be the same
	}{
		{
			name: "room for values that replaced others", config: jetstream.StreamConfig{MaxMsgsPerSubject: 1, MaxBytes: 200_000},
			life: func(t *testing.T, src *source, _ jetstream.Stream, backUp func()) (time.Time, image) {
				for i := range 150 {
					src.publish(t, fmt.Sprintf("s.%d", i), 1, kib)
				}
				backUp()
				for i := 75; i < 150; i++ {
					src.publish(t, fmt.Sprintf("s.%d", i), 1, kib)
				}
				at, im := now(), lookAt(t, src, "S")
				src.publish(t, "s.0", 1, kib)
				backUp()
				return at, im
			},
		},
		{
			name: "deleted in the middle of a full stream", config: jetstream.StreamConfig{MaxMsgs: 500},
			life: func(t *testing.T, src *source, st jetstream.Stream, backUp func()) (time.Time, image) {
				src.publish(t, "s.a", 500, kib)
				backUp()
				for seq := uint64(201); seq <= 300; seq++ {
					remove(t, st, seq)
				}
				src.publish(t, "s.a", 100, kib)
				at, im := now(), lookAt(t, src, "S")
				backUp()
				return at, im
			},
		},
		{
			name: "a revision deleted, its key written again", config: jetstream.StreamConfig{MaxMsgsPerSubject: 3},
			life: func(t *testing.T, src *source, st jetstream.Stream, backUp func()) (time.Time, image) {
				src.publish(t, "s.a", 3, kib)
				src.publish(t, "s.b", 3, kib)
				backUp()
				remove(t, st, 2)
				src.publish(t, "s.a", 1, kib)
				at, im := now(), lookAt(t, src, "S")
				backUp()
				return at, im
			},
		},
		{
			name: "a limit that was raised", config: jetstream.StreamConfig{MaxMsgs: 100}, loose: true,
			life: func(t *testing.T, src *source, st jetstream.Stream, backUp func()) (time.Time, image) {
				src.publish(t, "s.a", 100, kib)
				backUp()
				config := st.CachedInfo().Config
				config.MaxMsgs = 1000
				_, err := src.js.UpdateStream(t.Context(), config)
				must(t, err)
				src.publish(t, "s.a", 100, kib)
				at, im := now(), lookAt(t, src, "S")
				src.publish(t, "s.a", 10, kib)
				backUp()
				return at, im
			},
		},
		{
			name: "expired", config: jetstream.StreamConfig{MaxAge: 5 * time.Second, Duplicates: time.Second}, loose: true,
			life: func(t *testing.T, src *source, _ jetstream.Stream, backUp func()) (time.Time, image) {
				src.publish(t, "s.a", 10, kib)
				backUp()
				src.waitMessages(t, "S", 0)
				src.publish(t, "s.a", 5, kib)
				at, im := now(), lookAt(t, src, "S")
				src.publish(t, "s.a", 5, kib)
				backUp()
				return at, im
			},
		},
		{
			name: "all expired", config: jetstream.StreamConfig{MaxAge: 2 * time.Second, Duplicates: time.Second}, loose: true,
			life: func(t *testing.T, src *source, _ jetstream.Stream, backUp func()) (time.Time, image) {
				src.publish(t, "s.a", 10, kib)
				backUp()
				src.waitMessages(t, "S", 0)
				at, im := now(), lookAt(t, src, "S")
				src.publish(t, "s.a", 5, kib)
				backUp()
				return at, im
			},
		},
		{
			name: "another configuration than it had then", config: jetstream.StreamConfig{MaxMsgsPerSubject: 1}, loose: true,
			target: restore.Target{Config: json.RawMessage(`{"subjects":["s.*"],"retention":"limits","storage":"memory","num_replicas":1,"max_msgs_per_subject":-1,"max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"discard":"old"}`)},
			life: func(t *testing.T, src *source, _ jetstream.Stream, backUp func()) (time.Time, image) {
				for i := range 10 {
					src.publish(t, fmt.Sprintf("s.%d", i), 1, kib)
				}
				backUp()
				for i := range 10 {
					src.publish(t, fmt.Sprintf("s.%d", i), 1, kib)
				}
				at, im := now(), lookAt(t, src, "S")
				src.publish(t, "s.x", 1, kib)
				backUp()
				return at, im
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
			r, _ := newRepo(t, repo.Options{})
			c.config.Name, c.config.Subjects = "S", []string{"s.*"}
			st := src.create(t, c.config)
			at, want := c.life(t, src, st, func() { backUp(t, src, r, backUpOptions) })
			p, err := planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}, Target: c.target, Verify: true})
			must(t, err)
			ran(t, p)
			got := lookAt(t, dst, "S")
			if c.loose {
				want.Config, want.State, want.Consumers = got.Config, got.State, got.Consumers
			}
			sameImage(t, want, got)
		})
	}
}

// TestAsOfLargerMessages restores as of a time by which messages had come that are larger than the stream let them be when it was backed up before.
func TestAsOfLargerMessages(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	config := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxMsgSize: 1100}
	src.create(t, config)
	src.publish(t, "s", 10, kib)
	backUp(t, src, r, backUpOptions)
	config.MaxMsgSize = 5000
	_, err := src.js.UpdateStream(t.Context(), config)
	must(t, err)
	src.publish(t, "s", 1, func(int) []byte { return make([]byte, 4000) })
	want := lookAt(t, src, "S")
	at := now()
	src.publish(t, "s", 1, kib)
	backUp(t, src, r, backUpOptions)
	p, _ := restoreAt(t, dst, r, allStreams, at)
	sameImage(t, want, lookAt(t, dst, "S"))
	if got := told(p); !strings.Contains(got, "max_msg_size of 1100 was raised") {
		t.Error(got)
	}
}

// TestAsOfBusyStream backs up a stream into which messages come all the time, and restores it as of the moments at which the backups began: no
// message is younger.
func TestAsOfBusyStream(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = src.js.Publish(t.Context(), "s", []byte("x"))
			}
		}
	}()
	for src.messages(t, "S") < 100 {
		time.Sleep(time.Millisecond)
	}
	for range 4 {
		backUp(t, src, r, backUpOptions)
	}
	close(stop)
	<-done
	all := lookAt(t, src, "S")
	for _, sn := range snapshotsOf(t, r) {
		at := capturedAt(t, r, sn, "S")
		restoreAt(t, dst, r, allStreams, at)
		n := 0
		for _, e := range entries(t, all) {
			if e.at <= at.UnixNano() {
				n++
			}
		}
		if got := len(lookAt(t, dst, "S").Messages); got != n {
			t.Errorf("%d messages, %d had come by then", got, n)
		}
		emptyServer(t, dst)
	}
}
