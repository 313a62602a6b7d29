package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// sources are ways in which the same bytes can arrive.
var sources = map[string]func(io.Reader) io.Reader{
	"at once":        func(r io.Reader) io.Reader { return r },
	"byte by byte":   iotest.OneByteReader,
	"in halves":      iotest.HalfReader,
	"error with end": iotest.DataErrReader,
}

func TestReader(t *testing.T) {
	rnd := seeded(t)
	archives := map[string][]sample{
		"none":   nil,
		"edges":  edgeSamples(),
		"random": randomSamples(rnd, 100),
	}
	for name, samples := range archives {
		for way, source := range sources {
			t.Run(name+" "+way, func(t *testing.T) {
				r := NewReader(source(bytes.NewReader(archiveOf(sampleHead(), samples))), Limits{})
				h, err := r.Head()
				if err != nil {
					t.Fatal(err)
				}
				wantHead(t, h, sampleHead())
				got, err := readAll(r.Next)
				if err != nil {
					t.Fatal(err)
				}
				wantSamples(t, got, samples)
			})
		}
	}
}

func TestReaderReadsWhatTheServerWrites(t *testing.T) {
	samples := append(edgeSamples()[:10:10], randomSamplesFrom(seeded(t), 1<<57, 500)...)
	r := NewReader(bytes.NewReader(upstreamArchive(t, sampleHead(), samples)), Limits{})
	got, err := readAll(r.Next)
	if err != nil {
		t.Fatal(err)
	}
	wantSamples(t, got, samples)
}

func TestRawIsTheEntry(t *testing.T) {
	samples := randomSamples(seeded(t), 50)
	r := NewReader(bytes.NewReader(archiveOf(sampleHead(), samples)), Limits{})
	for _, s := range samples {
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Raw, s.append(nil)) {
			t.Fatalf("message %d: raw bytes differ", s.seq)
		}
	}
}

// Slices of a message must not let an append reach the bytes behind them.
func TestSlicesAreCapped(t *testing.T) {
	samples := edgeSamples()[3:5]
	r := NewReader(bytes.NewReader(archiveOf(sampleHead(), samples)), Limits{})
	m, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{"subject": m.Subject, "header": m.Header, "payload": m.Payload, "raw": m.Raw} {
		if cap(p) != len(p) {
			t.Errorf("%s has %d bytes and room for %d", name, len(p), cap(p))
		}
	}
}

func TestEveryPrefixIsTruncated(t *testing.T) {
	whole := archiveOf(sampleHead(), edgeSamples()[:5])
	for n := range whole {
		r := NewReader(bytes.NewReader(whole[:n]), Limits{})
		if _, err := readAll(r.Next); !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

// headOf gives a head with this state and these consumers' names.
func headOf(state string, names ...string) []byte {
	h := Head{State: []byte(state)}
	p := h.Append(nil)
	for _, name := range names {
		p = AppendMessage(p, name, 0, 0, nil, []byte(`{"config":{},"state":{}}`))
	}
	return p
}

func entryOf(subject string, seq uint64) []byte {
	return AppendMessage(nil, subject, 1, seq, nil, []byte("x"))
}

const (
	noConsumers  = `{"first_seq":1,"consumer_count":0}`
	oneConsumer  = `{"first_seq":1,"consumer_count":1}`
	twoConsumers = `{"first_seq":1,"consumer_count":2}`
)

func TestReaderRefuses(t *testing.T) {
	plain := headOf(noConsumers)
	cases := []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"nothing", nil, ErrTruncated},
		{"other magic", []byte("NATSARC2" + endMark), ErrFormat},
		{"a tar", bytes.Repeat([]byte("meta.inf"), 64), ErrFormat},
		{"no end mark", slices.Concat(plain, entryOf("a", 1)), ErrTruncated},
		{"bytes behind the end mark", slices.Concat(plain, []byte(endMark), []byte{0}), ErrFormat},
		{"two end marks", slices.Concat(plain, []byte(endMark), []byte(endMark)), ErrFormat},
		{"same sequence twice", slices.Concat(plain, entryOf("a", 5), entryOf("a", 5)), ErrOrder},
		{"sequence goes back", slices.Concat(plain, entryOf("a", 5), entryOf("a", 4)), ErrOrder},
		{"below the first sequence", slices.Concat(headOf(`{"first_seq":9,"last_seq":9}`), entryOf("a", 8)), ErrOrder},
		{"message without sequence", slices.Concat(plain, entryOf("a", 0)), ErrFormat},
		{"message without subject", slices.Concat(plain, entryOf("", 1)), ErrFormat},
		{"end mark with a time", slices.Concat(plain, AppendMessage(nil, "", 1, 0, nil, nil)), ErrFormat},
		{"long number", slices.Concat(plain, []byte{0x81, 0x00, 2, 1, 0, 0, 'a'}), ErrFormat},
		{"number of 65 bits", slices.Concat(plain, []byte{1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}), ErrFormat},
		{"no state", slices.Concat([]byte(magic), entryOf("a", 1)), ErrFormat},
		{"only the end mark", []byte(magic + endMark), ErrFormat},
		{"state with a sequence", AppendMessage([]byte(magic), stateName, 0, 1, nil, []byte(noConsumers)), ErrFormat},
		{"state with headers", AppendMessage([]byte(magic), stateName, 0, 0, []byte(`{`), []byte(noConsumers)), ErrFormat},
		{"state is no JSON", headOf(`{`), ErrFormat},
		{"state is empty", headOf(``), ErrFormat},
		{"state is no object", headOf(`[]`), ErrFormat},
		{"state with JSON behind it", headOf(noConsumers + noConsumers), ErrFormat},
		{"negative sequence", headOf(`{"first_seq":-1}`), ErrFormat},
		{"sequence above 64 bits", headOf(`{"first_seq":18446744073709551616}`), ErrFormat},
		{"negative consumers", headOf(`{"consumer_count":-1}`), ErrFormat},
		{"a consumer too few", slices.Concat(headOf(twoConsumers, "consumers/a"), []byte(endMark)), ErrFormat},
		{"a consumer too few, then messages", slices.Concat(headOf(twoConsumers, "consumers/a"), entryOf("a", 1)), ErrFormat},
		{"a consumer too many", slices.Concat(headOf(oneConsumer, "consumers/a", "consumers/b"), []byte(endMark)), ErrFormat},
		{"a consumer twice", slices.Concat(headOf(twoConsumers, "consumers/a", "consumers/a"), []byte(endMark)), ErrFormat},
		{"a consumer without name", headOf(oneConsumer, "consumers/"), ErrFormat},
		{"a consumer with a path", headOf(oneConsumer, "consumers/../a"), ErrFormat},
		{"another name for a consumer", headOf(oneConsumer, "consumer/a"), ErrFormat},
		{"a message named as a consumer", slices.Concat(headOf(oneConsumer), entryOf("consumers/a", 1)), ErrFormat},
		{"deep JSON", headOf(`{"x":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + `}`), ErrLimit},
		{"very many consumers", headOf(`{"consumer_count":1048577}`), ErrLimit},
		{"a huge name", slices.Concat(plain, binary.AppendUvarint(nil, MaxName+1), []byte{2, 1, 0, 0}), ErrLimit},
		{"a huge payload", slices.Concat(plain, appendEntryHeader(nil, 1, 1, 1, 0, MaxMessage+1)), ErrLimit},
		{"headers and payload huge together", slices.Concat(plain, appendEntryHeader(nil, 1, 1, 1, MaxMessage, 1)), ErrLimit},
		{"sizes that overflow", slices.Concat(plain, []byte{1, 1, 1}, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 2)), ErrLimit},
	}
	for _, c := range cases {
		for way, source := range sources {
			t.Run(c.name+" "+way, func(t *testing.T) {
				r := NewReader(source(bytes.NewReader(c.bytes)), Limits{})
				_, err := readAll(r.Next)
				if !errors.Is(err, c.want) {
					t.Fatalf("got %v, want %v", err, c.want)
				}
				wantSticky(t, r, err)
			})
		}
	}
}

// wantSticky checks that a reader that failed answers nothing else any more.
func wantSticky(t *testing.T, r *Reader, first error) {
	t.Helper()
	if _, err := r.Next(); err != first {
		t.Errorf("the next call returns %v", err)
	}
	if h, err := r.Head(); h == nil && err != first {
		t.Errorf("head: %v", err)
	}
}

func TestEndIsSticky(t *testing.T) {
	r := NewReader(bytes.NewReader(archiveOf(sampleHead(), nil)), Limits{})
	for range 3 {
		if _, err := r.Next(); err != io.EOF {
			t.Fatal(err)
		}
	}
	if h, err := r.Head(); h == nil || err != nil {
		t.Fatalf("the head is gone: %v", err)
	}
}

func TestLimits(t *testing.T) {
	head := &Head{State: []byte(oneConsumer), Consumers: []Consumer{{"abc", []byte(`{"config":{},"state":{}}`), 0}}}
	whole := archiveOf(head, []sample{{"subject", 1, 1, []byte("hh"), []byte("pp")}})
	names := len("state.json") + len("consumers/abc")
	cases := []struct {
		name string
		fits Limits
		less func(*Limits)
	}{
		{"name", Limits{MaxName: len("consumers/abc")}, func(l *Limits) { l.MaxName-- }},
		{"message", Limits{MaxMessage: 4}, func(l *Limits) { l.MaxMessage-- }},
		{"entry of the head", Limits{MaxHeadEntry: len(oneConsumer)}, func(l *Limits) { l.MaxHeadEntry-- }},
		{"head", Limits{MaxHead: len(oneConsumer) + len(`{"config":{},"state":{}}`) + names - len("consumers/abc")}, func(l *Limits) { l.MaxHead-- }},
		{"consumers", Limits{MaxConsumers: 1}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := readAll(NewReader(bytes.NewReader(whole), c.fits).Next); err != nil {
				t.Fatalf("what just fits: %v", err)
			}
			if c.less == nil {
				return
			}
			c.less(&c.fits)
			if _, err := readAll(NewReader(bytes.NewReader(whole), c.fits).Next); !errors.Is(err, ErrLimit) {
				t.Fatalf("one less: %v", err)
			}
		})
	}
}

func TestMaxConsumers(t *testing.T) {
	whole := archiveOf(sampleHead(), nil)
	if _, err := NewReader(bytes.NewReader(whole), Limits{MaxConsumers: 1}).Head(); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
}

// What an entry claims must not become memory before its bytes arrive.
func TestMemoryGrowsWithTheBytes(t *testing.T) {
	claims := slices.Concat(headOf(noConsumers), appendEntryHeader(nil, 1, 1, 1, 0, MaxMessage), make([]byte, 100))
	r := NewReader(bytes.NewReader(claims), Limits{})
	if _, err := r.Next(); !errors.Is(err, ErrTruncated) {
		t.Fatal(err)
	}
	if n := len(r.entries.win.buf); n > windowSize {
		t.Fatalf("the buffer has %d bytes after %d arrived", n, len(claims))
	}
}

func TestLargeMessages(t *testing.T) {
	rnd := seeded(t)
	samples := []sample{
		{"small", 1, 1, nil, []byte("x")},
		{"large", 2, 2, randomBytes(rnd, 1000), randomBytes(rnd, 5<<20+7)},
		{"small", 3, 3, nil, []byte("y")},
		{"window", 4, 4, nil, randomBytes(rnd, windowSize)},
		{"larger", 5, 5, nil, randomBytes(rnd, 9<<20)},
		{"small", 6, 6, nil, []byte("z")},
	}
	for way, source := range map[string]func(io.Reader) io.Reader{"at once": sources["at once"], "in halves": iotest.HalfReader} {
		t.Run(way, func(t *testing.T) {
			r := NewReader(source(bytes.NewReader(archiveOf(sampleHead(), samples))), Limits{})
			got, err := readAll(r.Next)
			if err != nil {
				t.Fatal(err)
			}
			wantSamples(t, got, samples)
			if most := 9<<20 + 2*windowSize; len(r.entries.win.buf) > most {
				t.Fatalf("the buffer has %d bytes", len(r.entries.win.buf))
			}
		})
	}
}

func TestSourceErrors(t *testing.T) {
	broken := errors.New("the network is gone")
	whole := archiveOf(sampleHead(), edgeSamples()[:3])
	cases := []struct {
		name string
		err  error
		want error
	}{
		{"its own", broken, broken},
		{"wrapped", fmt.Errorf("stream X: %w", broken), broken},
		{"unexpected EOF", io.ErrUnexpectedEOF, ErrTruncated},
		{"limit", ErrLimit, ErrLimit},
	}
	for _, c := range cases {
		for n := range whole {
			r := NewReader(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(c.err)), Limits{})
			if _, err := readAll(r.Next); !errors.Is(err, c.want) || !errors.Is(err, c.err) {
				t.Fatalf("%s after %d bytes: %v", c.name, n, err)
			}
		}
	}
}

// An error of the source behind the end mark must not be lost: it is how a
// capture learns that the server did not end well.
func TestSourceErrorBehindTheEndMark(t *testing.T) {
	broken := errors.New("status 408")
	whole := archiveOf(sampleHead(), nil)
	r := NewReader(io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(broken)), Limits{})
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

type idleReader struct{}

func (idleReader) Read([]byte) (int, error) { return 0, nil }

func TestReaderOfNothingGivesUp(t *testing.T) {
	if _, err := NewReader(idleReader{}, Limits{}).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Fatal(err)
	}
}

type lyingReader int

func (r lyingReader) Read(p []byte) (int, error) { return len(p) + int(r), nil }

func TestReaderThatLies(t *testing.T) {
	if _, err := NewReader(lyingReader(1), Limits{}).Next(); err == nil {
		t.Fatal("more bytes than there was room for were believed")
	}
}

func TestMessageReader(t *testing.T) {
	samples := edgeSamples()
	var entries []byte
	for _, s := range samples {
		entries = s.append(entries)
	}
	for way, source := range sources {
		t.Run(way, func(t *testing.T) {
			r := NewMessageReader(source(bytes.NewReader(entries)), Limits{})
			got, err := readAll(r.Next)
			if err != nil {
				t.Fatal(err)
			}
			wantSamples(t, got, samples)
			if r.Offset() != int64(len(entries)) {
				t.Fatalf("ended at %d of %d", r.Offset(), len(entries))
			}
		})
	}
}

func TestMessageReaderPrefixes(t *testing.T) {
	a, b := entryOf("a", 1), edgeSamples()[3].append(nil)
	both := slices.Concat(a, b)
	for n := range both {
		_, err := readAll(NewMessageReader(bytes.NewReader(both[:n]), Limits{}).Next)
		if atBoundary := n == 0 || n == len(a); atBoundary != (err == nil) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestMessageReaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"magic", []byte(magic), ErrTruncated}, // taken for an entry with a name of 78 bytes
		{"entries of a head", headOf(noConsumers)[len(magic):], ErrFormat},
		{"an end mark", slices.Concat(entryOf("a", 1), []byte(endMark)), ErrFormat},
		{"order", slices.Concat(entryOf("a", 2), entryOf("a", 1)), ErrOrder},
		{"no subject", entryOf("", 2), ErrFormat},
		{"a large payload", appendEntryHeader(nil, 1, 1, 1, 0, MaxMessage+1), ErrLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewMessageReader(bytes.NewReader(c.bytes), Limits{})
			_, err := readAll(r.Next)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if _, again := r.Next(); again != err {
				t.Fatalf("the next call returns %v", again)
			}
		})
	}
}

func TestErrorsSayWhere(t *testing.T) {
	p := slices.Concat(headOf(noConsumers), entryOf("a", 41))
	_, err := readAll(NewReader(bytes.NewReader(append(slices.Clone(p), entryOf("a", 41)...)), Limits{}).Next)
	want := fmt.Sprintf("read archive at byte %d, after sequence 41: ", len(p))
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("%v does not begin with %q", err, want)
	}
}

func TestOffset(t *testing.T) {
	samples := randomSamples(seeded(t), 20)
	r := NewReader(bytes.NewReader(archiveOf(sampleHead(), samples)), Limits{})
	if _, err := r.Head(); err != nil {
		t.Fatal(err)
	}
	want := int64(len(sampleHead().Append(nil)))
	for _, s := range samples {
		if r.Offset() != want {
			t.Fatalf("before %d: at %d, want %d", s.seq, r.Offset(), want)
		}
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		want += int64(len(m.Raw))
	}
}

// TestErrorsNameNoSubject: subjects may be about people, and errors end in logs.
func TestErrorsNameNoSubject(t *testing.T) {
	const secret = "orders.jane.doe"
	state := []byte(`{"messages":1,"first_seq":5,"last_seq":9,"consumer_count":0}`)
	one := []byte(`{"messages":1,"first_seq":5,"last_seq":9,"consumer_count":1}`)
	message := func(dst []byte, seq uint64, header, payload string) []byte {
		return AppendMessage(dst, secret, 1, seq, []byte(header), []byte(payload))
	}
	head := func(state []byte) []byte { return AppendMessage(AppendMagic(nil), stateName, 1, 0, nil, state) }
	for name, c := range map[string]struct {
		archive []byte
		says    string
	}{
		"message before the state":  {message(AppendMagic(nil), 5, "", "x"), "message 5"},
		"header before the state":   {message(AppendMagic(nil), 0, "NATS/1.0\r\n\r\n", "x"), "head"},
		"entry before the state":    {message(AppendMagic(nil), 0, "", "{}"), "first entry"},
		"no JSON before the state":  {message(AppendMagic(nil), 0, "", "jane"), "JSON"},
		"message for a consumer":    {message(head(one), 5, "", "x"), "message 5"},
		"entry for a consumer":      {message(head(one), 0, "", "{}"), "consumer"},
		"no JSON for a consumer":    {message(head(one), 0, "", "jane"), "JSON"},
		"message without sequence":  {message(message(head(state), 6, "", "x"), 0, "", "x"), "after sequence 6"},
		"message twice":             {message(message(head(state), 6, "", "x"), 6, "", "x"), "sequence 6"},
		"message before the first":  {message(head(state), 4, "", "x"), "sequence 4"},
		"message in two":            {message(head(state), 6, "", strings.Repeat("x", 100))[:len(head(state))+60], "cut short"},
		"message of a longer name":  {AppendMessage(head(state), strings.Repeat(secret, MaxName), 1, 6, nil, nil), "limit"},
		"nothing after the message": {message(head(state), 6, "", "x"), "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readAll(NewReader(bytes.NewReader(c.archive), Limits{}).Next)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v, want %q", err, c.says)
			}
			if strings.Contains(err.Error(), "jane") {
				t.Errorf("it names the subject: %v", err)
			}
		})
	}
}
