package legacy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"

	"jetsam/jetstream/archive"
)

// dumps are what servers sent, and were asked for afterwards.
const dumps = "../../tests/testdata/dumps"

// entry is a file of a tar.
type entry struct {
	name string
	data []byte
	kind byte // tar.TypeReg where it is zero
}

// dumped gives a file of a dump.
func dumped(t testing.TB, version, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(dumps, version+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if err != nil {
			t.Fatalf("%s of %s: %v", name, version, err)
		}
		if h.Name == name {
			p, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
}

// snapshotOf gives the files of a stream's snapshot, and what its server says of the messages, a line each.
func snapshotOf(t testing.TB, version, stream string) (files []entry, said string) {
	t.Helper()
	in := tar.NewReader(s2.NewReader(bytes.NewReader(dumped(t, version, stream+"/stream.tar.s2"))))
	for {
		h, err := in.Next()
		if err == io.EOF {
			return files, string(dumped(t, version, stream+"/messages.txt"))
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, entry{name: h.Name, data: p})
	}
}

func tarOf(t testing.TB, files []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.data)), Typeflag: f.kind, Format: tar.FormatPAX}
		if f.kind != 0 {
			h.Linkname, h.Size, f.data = "elsewhere", 0, nil
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// read reads a snapshot, and gives a line for each message.
func read(p []byte, stream string) (*Snapshot, string, error) {
	s, err := Scan(bytes.NewReader(p), stream)
	if err != nil {
		return nil, "", err
	}
	var out strings.Builder
	for m := s.Messages(bytes.NewReader(p), 0, 1<<62); ; {
		msg, err := m.Next()
		if err == io.EOF {
			return s, out.String(), nil
		}
		if err != nil {
			return s, out.String(), err
		}
		fmt.Fprintf(&out, "%d %d %q %q %q\n", msg.Seq, msg.Time, msg.Subject, msg.Header, msg.Payload)
	}
}

// readOnce reads a snapshot that comes only once, and gives a line for each message that is alive in the end.
func readOnce(p []byte, stream string) (*Snapshot, string, error) {
	s, m := Read(bytes.NewReader(p), stream, 1, 1<<62, func(uint64) bool { return false })
	var came []uint64
	var lines []string
	for {
		msg, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s, "", err
		}
		came = append(came, msg.Seq)
		lines = append(lines, fmt.Sprintf("%d %d %q %q %q\n", msg.Seq, msg.Time, msg.Subject, msg.Header, msg.Payload))
	}
	if len(came) > 0 {
		for from, to := range s.Gone(1, came[len(came)-1]) {
			for i, _ := slices.BinarySearch(came, from); i < len(came) && came[i] <= to; i++ {
				lines[i] = ""
			}
		}
	}
	return s, strings.Join(lines, ""), nil
}

// ways are both ways to read a snapshot.
func ways() map[string]func(p []byte, stream string) (*Snapshot, string, error) {
	return map[string]func([]byte, string) (*Snapshot, string, error){"twice": read, "once": readOnce}
}

// versions are of the servers whose dumps there are.
func versions(t testing.TB) (out []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dumps, "*.tar.gz"))
	if err != nil || len(found) < 3 {
		t.Fatalf("dumps %q, %v", found, err)
	}
	for _, path := range found {
		out = append(out, strings.TrimSuffix(filepath.Base(path), ".tar.gz"))
	}
	return out
}

// streams are those of every dump that have messages.
func streams() []string {
	return []string{"PLAIN", "DELETES", "PURGED", "KV_old", "LIMITED", "BLOCKS", "COMPRESSED", "QUEUE", "CONSUMED"}
}

func TestServersSnapshots(t *testing.T) {
	for _, version := range versions(t) {
		for _, stream := range streams() {
			files, said := snapshotOf(t, version, stream)
			if p := tarOf(t, files); !IsBegin(p) || IsBegin(p[1:]) || IsBegin(p[:BeginSize-1]) {
				t.Errorf("%s of %s begins with %q", stream, version, p[:BeginSize])
			}
			for how, read := range ways() {
				s, got, err := read(tarOf(t, files), stream)
				if err != nil {
					t.Fatalf("%s of %s, read %s: %v", stream, version, how, err)
				}
				if n := uint64(strings.Count(said, "\n")); got != said || !s.Indexed() || s.Alive(0, 1<<62) != n || n == 0 {
					t.Errorf("%s of %s, read %s: %d messages, %d by the index; the server has %d", stream, version, how, strings.Count(got, "\n"), s.Alive(0, 1<<62), n)
				}
			}
		}
	}
}

// TestConsumers: what servers write of a consumer's messages is read; that it is right the tests of imports compare.
func TestConsumers(t *testing.T) {
	for _, version := range versions(t) {
		files, _ := snapshotOf(t, version, "CONSUMED")
		s, _, err := read(tarOf(t, files), "CONSUMED")
		if err != nil || len(s.Consumers) != 5 {
			t.Fatalf("%s: %d consumers, %v", version, len(s.Consumers), err)
		}
		for _, c := range s.Consumers {
			state, err := archive.ParseConsumer(c.JSON)
			if err != nil || state.Name == "" && state.Durable == "" {
				t.Errorf("%s, consumer %s: %+v, %v", version, c.Name, state, err)
			}
			if c.Name == "filtered" && (state.Redelivered != 6 || state.AckPending < 6) {
				t.Errorf("%s, consumer %s: %d redelivered, %d pending", version, c.Name, state.Redelivered, state.AckPending)
			}
		}
	}
}

// TestAtOnce: 2.9 read one block after the other, and said of each what it was then.
func TestAtOnce(t *testing.T) {
	for _, version := range versions(t) {
		for stream, want := range map[string]bool{"BLOCKS": !strings.HasPrefix(version, "2.9."), "PLAIN": true} {
			files, _ := snapshotOf(t, version, stream)
			s, _, err := read(tarOf(t, files), stream)
			if err != nil || s.AtOnce() != want {
				t.Errorf("%s of %s: %v, %v", stream, version, s.AtOnce(), err)
			}
		}
	}
}

// TestBounds: of a stream that was written to meanwhile, only what is within its state is read.
func TestBounds(t *testing.T) {
	files, said := snapshotOf(t, "2.14.9", "DELETES")
	p := tarOf(t, files)
	s, err := Scan(bytes.NewReader(p), "DELETES")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(said, "\n")
	var n uint64
	for m := s.Messages(bytes.NewReader(p), 40, 121); ; n++ {
		msg, err := m.Next()
		if err == io.EOF {
			break
		}
		if err != nil || msg.Seq < 40 || msg.Seq > 121 || !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, fmt.Sprint(msg.Seq, " ")) }) {
			t.Fatalf("message %v, %v", msg, err)
		}
	}
	if n != s.Alive(40, 121) || n != 82-4 { // 50, 51, 100 and 120 are deleted
		t.Errorf("%d messages, %d by the index", n, s.Alive(40, 121))
	}
}

// TestGone: what is not alive are all sequences but those that are, within the bounds; what is known to be gone does not come at all.
func TestGone(t *testing.T) {
	for _, version := range versions(t) {
		for _, stream := range streams() {
			files, said := snapshotOf(t, version, stream)
			alive := map[uint64]bool{}
			for line := range strings.Lines(said) {
				var seq uint64
				fmt.Sscan(line, &seq)
				alive[seq] = true
			}
			s, m := Read(bytes.NewReader(tarOf(t, files)), stream, 1, 1<<62, func(seq uint64) bool { return !alive[seq] })
			n := 0
			for ; ; n++ {
				msg, err := m.Next()
				if err == io.EOF {
					break
				}
				if err != nil || !alive[msg.Seq] {
					t.Fatalf("%s of %s: %v, %v", stream, version, msg, err)
				}
			}
			if n != len(alive) {
				t.Errorf("%s of %s: %d messages of %d", stream, version, n, len(alive))
			}
			next := uint64(3)
			for from, to := range s.Gone(3, 150) {
				for ; next < from; next++ {
					if !alive[next] {
						t.Errorf("%s of %s: %d is not alive", stream, version, next)
					}
				}
				for ; next <= to; next++ {
					if alive[next] || next > 150 {
						t.Errorf("%s of %s: %d is alive, or out of bounds", stream, version, next)
					}
				}
			}
			for ; next <= 150; next++ {
				if !alive[next] {
					t.Errorf("%s of %s: %d is not alive", stream, version, next)
				}
			}
		}
	}
}

// TestWithoutIndex: what the blocks say of deletions is known without an index, and that it is not all is told.
func TestWithoutIndex(t *testing.T) {
	files, said := snapshotOf(t, "2.14.9", "DELETES")
	files = slices.DeleteFunc(files, func(f entry) bool { return f.name == "msgs/index.db" })
	for how, read := range ways() {
		s, got, err := read(tarOf(t, files), "DELETES")
		if err != nil || s.Indexed() || got != said {
			t.Errorf("read %s: %d messages of %d, indexed %v, %v", how, strings.Count(got, "\n"), strings.Count(said, "\n"), s.Indexed(), err)
		}
	}
}

func TestRefuses(t *testing.T) {
	change := func(name string, change func([]byte) []byte) func([]entry) []entry {
		return func(files []entry) []entry {
			i := slices.IndexFunc(files, func(f entry) bool { return f.name == name })
			files[i].data = change(bytes.Clone(files[i].data))
			return files
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(p []byte) []byte { p[(at+len(p))%len(p)] ^= 1; return p }
	}
	without := func(name string) func([]entry) []entry {
		return func(files []entry) []entry {
			return slices.DeleteFunc(files, func(f entry) bool { return f.name == name })
		}
	}
	with := func(f entry) func([]entry) []entry {
		return func(files []entry) []entry { return append(files, f) }
	}
	for name, c := range map[string]struct {
		change func([]entry) []entry
		want   error
		says   string
	}{
		"a payload was changed":     {change("msgs/1.blk", flip(-9)), archive.ErrFormat, "checksum of message"},
		"a time was changed":        {change("msgs/1.blk", flip(12)), archive.ErrFormat, "checksum of message"},
		"a checksum was changed":    {change("msgs/1.blk", flip(-1)), archive.ErrFormat, "checksum of message"},
		"a block is cut":            {change("msgs/1.blk", func(p []byte) []byte { return p[:len(p)-1] }), archive.ErrTruncated, "it ends within a record"},
		"a record is endless":       {change("msgs/1.blk", func(p []byte) []byte { p[3] = 0x7f; return p }), archive.ErrFormat, "a record of 2130706"},
		"a record is too small":     {change("msgs/1.blk", func(p []byte) []byte { return append([]byte{29, 0, 0, 0}, make([]byte, 25)...) }), archive.ErrFormat, "a record of 29 bytes"},
		"a subject is too long":     {change("msgs/1.blk", func(p []byte) []byte { p[20], p[21] = 0xff, 0xff; return p }), archive.ErrFormat, "a subject of 65535 bytes"},
		"a block is sent twice":     {with(entry{name: "msgs/1.blk"}), archive.ErrOrder, "block 1 after block 1"},
		"the index was changed":     {change("msgs/index.db", flip(9)), archive.ErrFormat, "checksum does not match"},
		"the index is cut":          {change("msgs/index.db", func(p []byte) []byte { return p[:5] }), archive.ErrTruncated, "5 bytes"},
		"no configuration":          {without("meta.inf"), archive.ErrTruncated, "there is no meta.inf"},
		"no checksum of it":         {without("meta.sum"), archive.ErrFormat, "checksum of meta.inf does not match"},
		"the configuration changed": {change("meta.inf", flip(20)), archive.ErrFormat, "checksum of meta.inf does not match"},
		"a consumer changed":        {change("obs/some/meta.inf", flip(20)), archive.ErrFormat, `consumer "some": `},
		"a consumer's is missing":   {without("obs/some/meta.inf"), archive.ErrTruncated, `consumer "some": `},
		"a state of another kind":   {change("obs/some/o.dat", func(p []byte) []byte { p[1] = 9; return p }), archive.ErrFormat, "it does not begin as the state of a consumer"},
		"a state is cut":            {change("obs/some/o.dat", func(p []byte) []byte { return p[:len(p)/2] }), archive.ErrTruncated, "a number is missing"},
		"it waits for too many":     {change("obs/some/o.dat", func(p []byte) []byte { return append(p[:6], 0xff, 0xff, 0xff, 0xff, 0x0f) }), archive.ErrLimit, "it waits for 4294967295 messages"},
		"the server failed":         {with(entry{name: "errors.txt", data: []byte("could not decompress")}), archive.ErrFormat, "says: could not decompress"},
		"a path out of it":          {with(entry{name: "../../etc/passwd"}), archive.ErrFormat, "servers write no file of that name"},
		"a path in it":              {with(entry{name: "msgs/sub/1.blk"}), archive.ErrFormat, "servers write no file of that name"},
		"an absolute path":          {with(entry{name: "/msgs/2.blk"}), archive.ErrFormat, "servers write no file of that name"},
		"a number with zeros":       {with(entry{name: "msgs/02.blk"}), archive.ErrFormat, "servers write no file of that name"},
		"a consumer without a name": {with(entry{name: "obs//o.dat"}), archive.ErrFormat, "servers write no file of that name"},
		"a link":                    {with(entry{name: "msgs/2.blk", kind: tar.TypeSymlink}), archive.ErrFormat, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			files, _ := snapshotOf(t, "2.14.9", "CONSUMED")
			p := tarOf(t, c.change(files))
			for how, read := range ways() {
				if _, _, err := read(p, "CONSUMED"); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("read %s: error %v, want %v, %q", how, err, c.want, c.says)
				}
			}
		})
	}
	files, _ := snapshotOf(t, "2.14.9", "CONSUMED")
	if _, _, err := read(tarOf(t, files), "OTHER"); !errors.Is(err, archive.ErrFormat) {
		t.Errorf("as the snapshot of another stream: %v", err)
	}
}

// TestPrefixes: a snapshot that ends early, wherever that is, is not taken for one.
func TestPrefixes(t *testing.T) {
	files, _ := snapshotOf(t, "2.14.9", "QUEUE")
	whole := tarOf(t, files)
	for how, read := range ways() {
		for n := range whole {
			if _, _, err := read(whole[:n], "QUEUE"); !errors.Is(err, archive.ErrTruncated) {
				t.Fatalf("%d of %d bytes, read %s: %v", n, len(whole), how, err)
			}
		}
	}
}

// TestMemoryFollowsBytes: a record takes no memory for what it only claims.
func TestMemoryFollowsBytes(t *testing.T) {
	var b records
	claim := append([]byte{0, 0, 0, 4}, make([]byte, 100)...) // 64 MiB
	if err := b.reset(bytes.NewReader(claim), "", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := b.next(); !errors.Is(err, archive.ErrTruncated) || cap(b.body) > 4<<20 {
		t.Errorf("%d bytes of memory, %v", cap(b.body), err)
	}
}
