package jetstream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nats-io/nats.go"

	"jetsam/internal/chance"
)

// TestTapKeepsHeaders: of all that comes it is the header blocks of one consumer's messages that are kept, however it is cut.
func TestTapKeepsHeaders(t *testing.T) {
	const block, odd = "NATS/1.0\r\nB: 1\r\na:  2\r\n\r\n", "HMSG x 1 $JS.ACK.S.jetsam-x.9 3 3\r\n"
	reply := func(consumer string, n int) string { return fmt.Sprintf("$JS.ACK.S.%s.1.%d.%d.5.0", consumer, n, n) }
	message := func(reply, header, payload string) string {
		return fmt.Sprintf("HMSG s.x 7 %s %d %d\r\n%s%s\r\n", reply, len(header), len(header)+len(payload), header, payload)
	}
	said := greeting +
		message(reply("jetsam-x", 1), block, "payload") +
		message(reply("jetsam-y", 1), block, "another consumer's") +
		message(reply("jetsam-x1", 1), block, "and another's") +
		"MSG s.x 7 " + reply("jetsam-x", 2) + " 5\r\nplain\r\n" +
		message(reply("jetsam-x", 3), odd, "") +
		message("", block, "without a reply subject") +
		message(reply("jetsam-x", 4), block, odd) +
		"HMSG s.x 7 " + reply("jetsam-x", 5) + " 0 2\r\nno\r\n" +
		message(reply("jetsam-x", 6), block+block, "")
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, most := range []int{len(said), 1, 3, 50} {
		var all taps
		tap := all.add("jetsam-x")
		f := framing{taps: &all}
		for p := []byte(said); len(p) > 0; {
			n := min(1+r.IntN(most), len(p))
			if err := f.follow(p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
		for _, want := range []struct {
			n      int
			header string
		}{{1, block}, {2, ""}, {3, odd}, {4, block}} {
			if want.n == 2 { // has none, and so is never asked for
				continue
			}
			if got := tap.pop(reply("jetsam-x", want.n), len(want.header)); string(got) != want.header {
				t.Errorf("in pieces of up to %d (seed %d): header %d is %q, want %q", most, seed, want.n, got, want.header)
			}
		}
		if got := tap.pop(reply("jetsam-x", 6), len(block)); got != nil {
			t.Errorf("a header of another size is %q", got)
		}
		if len(tap.blocks) != 0 || tap.size != 0 {
			t.Errorf("%d blocks of %d bytes are left", len(tap.blocks), tap.size)
		}
		all.remove(tap)
		all.remove(tap)
		if all.of([]byte(reply("jetsam-x", 7))) != nil {
			t.Error("a tap is there that was removed")
		}
	}
}

// TestTapForgets what came before the message that is delivered, and whatever is too much.
func TestTapForgets(t *testing.T) {
	var all taps
	tap := all.add("c")
	for i := range 5 {
		tap.push(fmt.Sprint(i), []byte{byte(i)})
	}
	if tap.pop("", 1) != nil || len(tap.blocks) != 5 {
		t.Error("a heartbeat takes the headers of what comes behind it")
	}
	if got := tap.pop("3", 1); !bytes.Equal(got, []byte{3}) {
		t.Errorf("header is %v", got)
	}
	if tap.pop("2", 1) != nil || tap.pop("4", 1) != nil {
		t.Error("what was passed over is still there")
	}
	block := make([]byte, maxTapped/8)
	for i := range 20 {
		tap.push(fmt.Sprint(i), block)
		if tap.size > maxTapped || tap.size != len(tap.blocks)*len(block) {
			t.Fatalf("%d bytes are kept in %d blocks", tap.size, len(tap.blocks))
		}
	}
	if tap.pop("12", len(block)) == nil || tap.pop("19", len(block)) == nil {
		t.Error("the latest are not there")
	}
	tap.push("huge", make([]byte, maxTapped+1))
	if tap.pop("huge", maxTapped+1) != nil || tap.size != 0 {
		t.Error("one too large is kept")
	}
}

// TestTapTakesNoMemoryForWhatIsAnnounced: a header of 128 MiB that does not come takes none.
func TestTapTakesNoMemoryForWhatIsAnnounced(t *testing.T) {
	var all taps
	all.add("c")
	f := framing{taps: &all}
	if err := f.follow(fmt.Appendf(nil, "HMSG s 1 $JS.ACK.S.c.1 %d %d\r\nNATS", maxWirePayload, maxWirePayload)); err != nil {
		t.Fatal(err)
	}
	if cap(f.keep.block) > 2*usualHeader {
		t.Errorf("%d bytes were taken for 4", cap(f.keep.block))
	}
}

// TestInflow: order is kept, the latest of several heartbeats stands for all, and there is an end to what is kept.
func TestInflow(t *testing.T) {
	message := func(n int) arrival { return arrival{Msg: &nats.Msg{Subject: fmt.Sprint(n)}} }
	beat := func(n int) arrival { return arrival{Msg: &nats.Msg{Subject: fmt.Sprint(n)}, beat: true} }
	q := newInflow(10_000)
	for range 3 {
		for _, a := range []arrival{beat(1), message(2), beat(3), beat(4), beat(5), message(6), message(7), beat(8)} {
			q.push(a)
		}
		got, err := q.take(make([]arrival, 4), 0)
		text := ""
		for _, a := range got {
			text += a.Subject
		}
		if err != nil || text != "125678" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if _, err := q.take(nil, 1); err != ErrTimeout {
		t.Errorf("of an empty queue: %v", err)
	}
	for range 100_000 {
		q.push(beat(1))
	}
	if len(q.queue) != 1 {
		t.Errorf("%d heartbeats are kept", len(q.queue))
	}
	for range 1_000 {
		q.push(message(1))
	}
	if _, err := q.take(nil, 0); err == nil || q.size != 0 || len(q.queue) != 0 {
		t.Errorf("%d bytes are kept, error %v", q.size, err)
	}
}

// TestInflowOfALostConnection: what came before the connection was lost is read first. Whatever else ends a fetch ends it at once.
func TestInflowOfALostConnection(t *testing.T) {
	for _, why := range []error{ErrConnectionLost, ErrClosed} {
		q := newInflow(10_000)
		q.push(arrival{Msg: &nats.Msg{Subject: "came"}})
		q.fail(why)
		q.push(arrival{Msg: &nats.Msg{Subject: "late"}})
		got, err := q.take(nil, 0)
		if lost := why == ErrConnectionLost; lost != (len(got) == 1) || lost && err != nil {
			t.Errorf("%v: %d messages, %v", why, len(got), err)
		}
		if _, err := q.take(nil, 0); err != why {
			t.Errorf("then %v, want %v", err, why)
		}
	}
}

func TestConsumersKeepWithinTheirWindow(t *testing.T) {
	for window, want := range map[int]int{0: 0, minWindow: 0, 2 << 20: 0, 4<<20 - 1: 0, 4 << 20: 1, defaultWindow: 2, maxWindow: 4} {
		if got := goOns(window); got != want {
			t.Errorf("a window of %d: told to go on %d times, want %d", window, got, want)
		}
	}
}
