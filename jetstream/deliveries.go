package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

const (
	// consumerPrefix begins the names of the consumers that a fetch creates.
	consumerPrefix = "jetsam-fetch-"
	// tokenLength is how long the random end of such a name is: as long as that of nats.go's inboxes, which it is.
	tokenLength = 22
	// heartbeat is how soon a server that has nothing more to deliver says so, and where it stands.
	heartbeat = 250 * time.Millisecond
	// minHeartbeat is the least that servers take, for where a heartbeat is what the next consumer waits for.
	minHeartbeat = 100 * time.Millisecond
	// abandoned is how long a consumer outlives the connection that it delivers to.
	abandoned = 5 * time.Second
	// deliveryLimit bounds what has come and was not read. A server sends no more than 32 MiB before it is told to go on (nats-server
	// 2.15, JsFlowControlMaxPending), in messages of 80 bytes at the least, and each of them takes more than its bytes.
	deliveryLimit = 256 << 20
	// maxReplaced is how often a fetch replaces a consumer of whose deliveries some did not arrive.
	maxReplaced = 3
	// deleteTimeout bounds the wait for the end of a consumer, which servers delete by themselves too.
	deleteTimeout = 2 * time.Second
)

// deliveries is a range of messages that a consumer delivers. The consumer acknowledges nothing, is held in memory, and exists for as
// long as it is listened to.
//
// That nothing is missing is seen by the number that the consumer gives to each delivery. That nothing follows is only believed of
// the last sequence of the range, or of a heartbeat that says that the consumer has passed it: a consumer may run on a server to
// which the last messages have not come yet, and its count of what is pending is an estimate.
//
// How much the server sends ahead grows beyond what a slow line can bear. Where that was seen on this connection, a consumer is told
// to go on only as often as keeps its window small; once it has stalled, and a heartbeat says so, another one goes on in its place, with a
// window that is larger if there is room: the line has borne this one.
type deliveries struct {
	*branch
	window   int           // bytes that the server may send ahead; 0: as much as it likes
	goOns    int           // how often the consumer may still be told to go on, where there is a window
	quiet    time.Duration // for which a consumer may be idle, as the stream's limits have it
	give     func()        // gives back the window; nil: it was given back
	in       *intake       // nil: there is no consumer
	name     string        // of the consumer
	batch    []arrival
	at       int       // in batch, the next to be read
	number   uint64    // of deliveries of this consumer so far
	next     uint64    // the least sequence that may come
	since    time.Time // when waiting for a message began; zero: nobody waits
	replaced int       // how often a consumer was replaced that lost deliveries, or made none
	again    *asker    // asks once more for messages whose headers no tap kept; nil until there is one
	asked    int       // in batch, the next to be looked at for that
}

// IsFetchConsumer says whether a consumer of that name is one that a Fetch made, of this process or of another: it is gone soon, and nobody's to keep.
func IsFetchConsumer(name string) bool {
	token, ok := strings.CutPrefix(name, consumerPrefix)
	return ok && len(token) == tokenLength && !strings.ContainsFunc(token, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// newDeliveries does not create a consumer yet.
func newDeliveries(b *branch, info *StreamInfo) *deliveries {
	var config struct {
		Limits struct {
			Inactive time.Duration `json:"inactive_threshold"`
		} `json:"consumer_limits"`
	}
	d := &deliveries{branch: b, quiet: abandoned}
	// What is not understood there sets no limit; the server knows better, and says so.
	if err := strictjson.Decode(info.Config, &config); err == nil && config.Limits.Inactive > 0 {
		d.quiet = min(d.quiet, config.Limits.Inactive)
	}
	d.takeWindow()
	return d
}

func (d *deliveries) takeWindow() {
	window := d.conn.windows.take(0)
	d.give = func() { d.conn.windows.give(window) }
	if d.conn.windows.isNarrow() {
		d.window = window
	}
}

// widen takes another window after one of which all has come.
func (d *deliveries) widen() {
	d.give()
	d.conn.windows.well()
	d.takeWindow()
}

// consume creates a consumer that delivers what there is from a sequence on.
func (d *deliveries) consume(from uint64) error {
	inbox := d.conn.nc.NewInbox()
	name := consumerPrefix + inbox[strings.LastIndexByte(inbox, '.')+1:]
	d.name, d.number, d.next, d.since = name, 0, from, time.Time{}
	d.goOns = goOns(d.window)
	tap := d.conn.taps.add(name)
	in, err := d.listen(inbox, deliveryLimit, func(m *nats.Msg) arrival {
		a := arrival{Msg: m, beat: m.Subject == inbox && m.Reply == ""}
		if n := headerSize(m); n > 0 {
			a.header = tap.pop(m.Reply, n)
		}
		return a
	}, func(refused string) bool { return isFlowControl(refused, name) })
	if err != nil {
		d.conn.taps.remove(tap)
		return err
	}
	in.stops = append([]func(){func() { d.conn.taps.remove(tap) }}, in.stops...)
	d.in = in
	return d.create(from)
}

// create asks the server for the consumer.
func (d *deliveries) create(from uint64) error {
	type config struct {
		Name        string        `json:"name"`
		Description string        `json:"description"`
		Deliver     string        `json:"deliver_subject"`
		Policy      string        `json:"deliver_policy"`
		Start       uint64        `json:"opt_start_seq"`
		Ack         string        `json:"ack_policy"`
		Pending     int           `json:"max_ack_pending"`
		Replay      string        `json:"replay_policy"`
		FlowControl bool          `json:"flow_control"`
		Heartbeat   time.Duration `json:"idle_heartbeat"`
		Inactive    time.Duration `json:"inactive_threshold"`
		Replicas    int           `json:"num_replicas"`
		Memory      bool          `json:"mem_storage"`
	}
	request, err := json.Marshal(struct {
		Stream string `json:"stream_name"`
		Config config `json:"config"`
		Action string `json:"action"`
	}{d.stream, config{
		Name: d.name, Description: "jetsam reads the stream", Deliver: d.in.inbox, Policy: "by_start_sequence", Start: from,
		Ack: "none", Pending: -1, // which a stream may set a limit to, and then refuse it without acknowledgements
		Replay: "instant", FlowControl: true, Heartbeat: d.heartbeat(),
		Inactive: d.quiet, Replicas: 1, Memory: true,
	}, "create"})
	if err != nil {
		return err
	}
	return d.within(func(ctx context.Context) error {
		raw, err := d.conn.api(ctx, "CONSUMER.CREATE."+d.stream+"."+d.name, request)
		if err != nil {
			return fmt.Errorf("create a consumer: %w", err)
		}
		name, err := nameIn(raw)
		if err == nil && name != d.name {
			err = fmt.Errorf("the server answered with the consumer %q, another one", printable(name))
		}
		return err
	})
}

func (d *deliveries) heartbeat() time.Duration {
	if d.window > 0 {
		return minHeartbeat
	}
	return max(min(heartbeat, d.idle/4), minHeartbeat)
}

// Why a consumer is replaced.
var (
	errGap     = errors.New("deliveries of the consumer are missing")
	errStalled = errors.New("the consumer has stalled")
)

func (d *deliveries) read(m *archive.Message) error {
	for {
		err := d.readNext(m)
		switch {
		case errors.Is(err, ErrMessageNotFound): // deleted after it was delivered
			continue
		case !errors.Is(err, errGap) && !errors.Is(err, errStalled):
			return err
		}
		if errors.Is(err, errGap) || d.number == 0 {
			d.replaced++
		}
		if d.replaced > maxReplaced {
			return fmt.Errorf("%w, again after it was replaced %d times", err, maxReplaced)
		}
		d.end()
		if errors.Is(err, errStalled) && d.number > 0 {
			d.widen()
		}
		if err := d.consume(d.next); err != nil {
			return err
		}
	}
}

// readNext sets m to the next message. ErrMessageNotFound says that this one is none any more.
func (d *deliveries) readNext(m *archive.Message) error {
	for {
		a, err := d.take()
		if err != nil {
			return err
		}
		s, ok := parseStored(a.Reply, d.name)
		if !ok {
			if err := d.control(a); err != nil {
				return err
			}
			continue
		}
		d.since = time.Time{}
		if err := d.follow(s); err != nil {
			return err
		}
		size := headerSize(a.Msg)
		if size > 0 && a.header == nil {
			return d.askAgain(s.seq, m)
		}
		if err := checkMessage(a.Subject, s.seq, size+len(a.Data)); err != nil {
			return err
		}
		m.Set(a.Subject, s.time, s.seq, a.header, a.Data)
		return nil
	}
}

// take returns what came next. A server that is waited for has to send a message before the patience ends: heartbeats are no progress.
func (d *deliveries) take() (arrival, error) {
	if d.at == len(d.batch) {
		if d.since.IsZero() {
			d.since = time.Now()
		}
		batch, err := d.in.take(d.batch, time.Until(d.since.Add(d.idle)))
		d.batch, d.at, d.asked = batch, 0, 0
		if errors.Is(err, ErrTimeout) {
			return arrival{}, d.silence()
		}
		if err != nil {
			return arrival{}, err
		}
	}
	d.at++
	return d.batch[d.at-1], nil
}

// follow checks that a delivery is the next one. It returns io.EOF if it lies beyond the range.
func (d *deliveries) follow(s stored) error {
	switch {
	case s.number > d.number+1:
		return errGap
	case s.number <= d.number || s.deliveries != 1:
		return fmt.Errorf("the consumer delivered message %d a second time", s.seq)
	case s.seq < d.next:
		return fmt.Errorf("the consumer delivered message %d where %d or more was due", s.seq, d.next)
	case s.seq > d.last:
		return d.ended()
	case s.seq == d.last:
		_ = d.ended() // with this one
	}
	d.number, d.next = s.number, s.seq+1
	return nil
}

// control does what a message asks for that is no message of the stream: an idle heartbeat, which says where the consumer stands, or
// a request to say when what came before it has been read (nats-server 2.15, sendIdleHeartbeat and sendFlowControl).
func (d *deliveries) control(a arrival) error {
	if a.Subject != d.in.inbox || a.Header.Get("Status") != "100" || len(a.Data) > 0 {
		return fmt.Errorf("the consumer delivered something with the unknown reply subject %q", printable(a.Reply))
	}
	if a.Reply != "" {
		return d.goOn(a.Reply)
	}
	number, err1 := strconv.ParseUint(a.Header.Get("Nats-Last-Consumer"), 10, 64)
	seq, err2 := strconv.ParseUint(a.Header.Get("Nats-Last-Stream"), 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return errors.New("a heartbeat of the consumer does not say where it stands")
	case number > d.number:
		return errGap
	case number < d.number:
		return fmt.Errorf("a heartbeat says that the consumer has delivered %d messages, %d have come", number, d.number)
	case seq >= d.last:
		return d.ended()
	}
	stalled := a.Header.Get("Nats-Consumer-Stalled")
	switch {
	case stalled == "":
		return nil
	case d.window > 0 && d.goOns == 0:
		return errStalled
	}
	return d.goOn(stalled)
}

// ended is io.EOF, and notes that the line bears what was sent.
func (d *deliveries) ended() error {
	d.conn.windows.well()
	return io.EOF
}

// goOn tells the server that all has been read that came before it asked, if it may send as much more as it then does.
func (d *deliveries) goOn(reply string) error {
	if !isFlowControl(reply, d.name) {
		return fmt.Errorf("the consumer wants to be answered on %q, which is not a subject of its own", printable(reply))
	}
	if d.window > 0 {
		if d.goOns == 0 {
			return nil
		}
		d.goOns--
	}
	err := d.conn.redact.translate(d.conn.nc.Publish(reply, nil))
	if errors.Is(err, ErrConnectionLost) {
		return nil // the queue is about to be told, after all that has to be done about it
	}
	return err
}

// isFlowControl reports whether subject is one on which the consumer of that name is told to go on. Nothing is published to others,
// whatever a server asks for.
func isFlowControl(subject, consumer string) bool {
	for _, b := range []byte(subject) {
		if b <= ' ' || b == 0x7f {
			return false
		}
	}
	return strings.HasPrefix(subject, "$JS.FC.") && strings.Contains(subject, "."+consumer+".")
}

// askAgain sets m to message seq, the one that was read last, as the API gives it: headers and all. It asks for those that follow
// along with it.
func (d *deliveries) askAgain(seq uint64, m *archive.Message) error {
	if d.again == nil {
		d.again = newAsker(d.branch)
	}
	for d.asked = max(d.asked, d.at-1); d.asked < len(d.batch) && len(d.again.asked) < d.again.room; d.asked++ {
		a := d.batch[d.asked]
		if a.header != nil || headerSize(a.Msg) == 0 {
			continue
		}
		if s, ok := parseStored(a.Reply, d.name); ok && s.seq <= d.last && s.seq > 0 {
			if err := d.again.ask(s.seq, false); err != nil {
				return err
			}
		}
	}
	if len(d.again.asked) == 0 || d.again.asked[0].seq != seq {
		return fmt.Errorf("message %d is not in the order in which it was delivered", seq)
	}
	return d.again.answer(m)
}

// silence says why nothing comes, as far as that can be found out. The consumer is deleted with that, and gone before if the server lost it.
func (d *deliveries) silence() error {
	err := d.delete()
	d.in.stop()
	d.in = nil
	if errors.Is(err, ErrConsumerNotFound) {
		return fmt.Errorf("the server lost the consumer that it was read by: %w", ErrConsumerNotFound)
	}
	return d.whySilent()
}

// delete deletes the consumer. The server does so by itself when nobody listens any more, so that whether it could does not matter.
func (d *deliveries) delete() error {
	if !d.conn.Connected() {
		return ErrConnectionLost
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), deleteTimeout, ErrTimeout)
	defer cancel()
	_, err := d.conn.api(ctx, "CONSUMER.DELETE."+d.stream+"."+d.name, nil)
	return err
}

// end gives up the consumer and what it delivered.
func (d *deliveries) end() {
	if d.in != nil {
		d.in.stop()
		_ = d.delete()
	}
	if d.again != nil {
		d.again.stop()
	}
	d.in, d.again, d.batch = nil, nil, nil
	d.at, d.asked = 0, 0
}

func (d *deliveries) stop() {
	d.end()
	if d.give != nil {
		d.give()
		d.give = nil
	}
}

// stored is what the reply subject of a delivery says of a message.
type stored struct {
	deliveries  uint64 // how often it was delivered
	seq, number uint64 // in the stream, and of the delivery
	time        int64  // Unix nanoseconds
}

// parseStored takes the reply subject of a delivery of the consumer of that name apart. It is
// $JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<number>.<time>.<pending>, with a domain and a hash of the account before the
// stream in newer forms, and perhaps more behind (nats-server 2.15, ackReply).
func parseStored(reply, consumer string) (s stored, ok bool) {
	if !strings.HasPrefix(reply, "$JS.ACK.") {
		return stored{}, false
	}
	_, rest, found := strings.Cut(reply, "."+consumer+".")
	if !found {
		return stored{}, false
	}
	var field [5]string
	for i := range field {
		field[i], rest, found = strings.Cut(rest, ".")
		if !found && i < len(field)-1 {
			return stored{}, false
		}
	}
	var err1, err2, err3, err4 error
	s.deliveries, err1 = strconv.ParseUint(field[0], 10, 64)
	s.seq, err2 = strconv.ParseUint(field[1], 10, 64)
	s.number, err3 = strconv.ParseUint(field[2], 10, 64)
	s.time, err4 = strconv.ParseInt(field[3], 10, 64)
	return s, err1 == nil && err2 == nil && err3 == nil && err4 == nil
}
