package tests

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	conn "jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/jetstream/legacy"
)

// framed frames what is written to it, and passes it on.
type framed struct{ to io.Writer }

func (f framed) Write(p []byte) (int, error) {
	_, err := f.to.Write(archive.AppendFrame(nil, p))
	return len(p), err
}

// gappy writes a stream that has a message at each of the sequences and ends at last, to an older server.
func gappy(t testing.TB, c *conn.Conn, name string, last uint64, unmarked bool, seqs func(yield func(uint64) bool)) *conn.StreamInfo {
	t.Helper()
	config := fmt.Appendf(nil, `{"name":%q,"subjects":["%s.>"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1}`, name, name)
	r, err := c.Restore(t.Context(), name, config, []byte(`{}`))
	must(t, err)
	defer r.Abort()
	w, err := legacy.NewWriter(framed{r}, legacy.About{Stream: name, Config: config, Taken: time.Now(), Unmarked: unmarked})
	must(t, err)
	for seq := range seqs {
		must(t, w.Message(archive.NewMessage(name+".x", 1e18+int64(seq), seq, nil, fmt.Append(nil, seq))))
	}
	must(t, w.Close(last, time.Unix(2e9, 0)))
	info, err := r.Finish(t.Context())
	must(t, err)
	return info
}

// TestGapsOfOldServers: servers find each message behind gaps of any size, marked or not, count what is missing, and go on behind the end.
func TestGapsOfOldServers(t *testing.T) {
	t.Parallel()
	const far = 5e7
	for version, program := range oldServers(t) {
		s := startOld(t, program, "")
		c := connectOld(t, s)
		for name, seqs := range map[string][]uint64{
			"near": {1, 2, 5, 6, 100, 101, 5000, 5001, 100_000, 100_002}, "far": {7, 1e6, 1e6 + 1, 1e6 + 3, 2e7, 2e7 + 2}, "none": {}, "atEnd": {10, 3e5, far - 3, far},
		} {
			for _, unmarked := range []bool{false, true} {
				if unmarked && version[:4] == "2.9." {
					continue // which does not find what is behind a gap without marks
				}
				name := fmt.Sprint(name, unmarked)
				info := gappy(t, c, name, far, unmarked, slices.Values(seqs))
				missing := uint64(0)
				if len(seqs) > 0 {
					missing = far - seqs[0] + 1 - uint64(len(seqs))
				}
				if info.Messages != uint64(len(seqs)) || info.LastSeq != far || info.Deleted != missing {
					t.Errorf("%s, %s: %s", version, name, info.State)
				}
				got, err := c.Fetch(t.Context(), name, 1, far, conn.FetchOptions{})
				must(t, err)
				for _, seq := range seqs {
					if m, err := got.Next(); err != nil || m.Seq != seq || string(m.Payload) != fmt.Sprint(seq) || m.Time != 1e18+int64(seq) {
						t.Fatalf("%s, %s: message %d: %+v, %v", version, name, seq, m, err)
					}
					if m, err := c.Message(t.Context(), name, seq); err != nil || m.Seq != seq {
						t.Errorf("%s, %s: asked for %d: %v", version, name, seq, err)
					}
				}
				if m, err := got.Next(); err != io.EOF {
					t.Errorf("%s, %s: another message: %+v, %v", version, name, m, err)
				}
				must(t, got.Close())
				if ack, err := s.js.Publish(t.Context(), name+".y", nil); err != nil || ack.Sequence != far+1 {
					t.Errorf("%s, %s: the next message: %+v, %v", version, name, ack, err)
				}
			}
		}
	}
}
