package restore

import (
	"bytes"
	"math"
	"testing"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// TestSuccession holds missing messages against those that came: what these explain, no more, is no difference.
func TestSuccession(t *testing.T) {
	const old = math.MaxUint64 // the stream begins behind what is missing
	oldest := func(s jetstream.StreamSettings) jetstream.StreamSettings { s.Discard = "old"; return s }
	sub, all := "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n", "NATS/1.0\r\nNats-Rollup: ALL\r\n\r\n"
	message := func(seq uint64, subject, header string, payload int) *archive.Message {
		return archive.NewMessage(subject, 1, seq, []byte(header), make([]byte, payload))
	}
	type came struct {
		subject, header string
		payload         int
	}
	one := uint64(30 + 1 + 10) // bytes of a message of ten to a subject of one letter, as a server counts them
	for _, c := range []struct {
		name     string
		settings jetstream.StreamSettings
		restored string // subjects of messages from 1 on, of ten bytes
		gone     string // a letter for each: x is missing
		first    uint64
		came     []came
		explains string // of those that are missing: y
	}{
		{"a key that was put again", jetstream.StreamSettings{MaxMessagesOfSubject: 1, Discard: "new"}, "abc", "-x-", 1, []came{{"b", "", 1}}, "-y-"},
		{"another key than was put", jetstream.StreamSettings{MaxMessagesOfSubject: 1}, "abc", "-xx", 1, []came{{"b", "", 1}}, "-y-"},
		{"nothing came", jetstream.StreamSettings{MaxMessagesOfSubject: 1}, "abc", "-x-", 1, nil, "---"},
		{"a history that is full", jetstream.StreamSettings{MaxMessagesOfSubject: 3}, "aaa", "x--", 2, []came{{"a", "", 1}}, "y--"},
		{"a history that is not full", jetstream.StreamSettings{MaxMessagesOfSubject: 3}, "aa", "x-", 2, []came{{"a", "", 1}}, "--"},
		{"more of a history than came", jetstream.StreamSettings{MaxMessagesOfSubject: 3}, "aaa", "xx-", 3, []came{{"a", "", 1}}, "y--"},
		{"not the oldest of a history", jetstream.StreamSettings{MaxMessagesOfSubject: 3}, "aaa", "-x-", 1, []came{{"a", "", 1}}, "---"},
		{"of a subject that takes no more", jetstream.StreamSettings{MaxMessagesOfSubject: 1, Discard: "new", DiscardNewOfSubject: true}, "ab", "x-", 2, []came{{"a", "", 1}}, "--"},
		{"a full stream", oldest(jetstream.StreamSettings{MaxMessages: 4}), "abcd", "xx--", 3, []came{{"e", "", 1}, {"f", "", 1}}, "yy--"},
		{"a full stream that lost more", oldest(jetstream.StreamSettings{MaxMessages: 4}), "abcd", "xx--", 3, []came{{"e", "", 1}}, "y---"},
		{"a stream that is not full", oldest(jetstream.StreamSettings{MaxMessages: 4}), "abc", "x--", 2, []came{{"e", "", 1}}, "---"},
		{"not the oldest of a full stream", oldest(jetstream.StreamSettings{MaxMessages: 4}), "abcd", "-x--", 1, []came{{"e", "", 1}}, "----"},
		{"a full stream that takes no more", jetstream.StreamSettings{MaxMessages: 4, Discard: "new"}, "abcd", "x---", 2, []came{{"e", "", 1}}, "----"},
		{"more than the stream kept", oldest(jetstream.StreamSettings{MaxMessages: 3}), "abcd", "xx--", 3, []came{{"e", "", 1}}, "-y--"},
		{"full by its bytes", oldest(jetstream.StreamSettings{MaxBytes: int64(4 * one)}), "abcd", "x---", 2, []came{{"e", "", 10}}, "y---"},
		{"full by its bytes, of a large one", oldest(jetstream.StreamSettings{MaxBytes: int64(4 * one)}), "abcd", "xx--", 3, []came{{"e", "", 11}}, "yy--"},
		{"not full by its bytes", oldest(jetstream.StreamSettings{MaxBytes: int64(5 * one)}), "abcd", "x---", 2, []came{{"e", "", 10}}, "----"},
		{"a large one, and a small one that would have had room", oldest(jetstream.StreamSettings{MaxBytes: int64(5 * one)}), "abcd", "xxx-", 4, []came{{"e", "", 95}, {"f", "", 1}}, "yyy-"},
		{"a rollup of a subject", jetstream.StreamSettings{AllowRollup: true}, "abab", "xx-x", 1, []came{{"a", sub, 1}}, "y---"},
		{"a rollup of all", jetstream.StreamSettings{AllowRollup: true}, "abab", "xxxx", old, []came{{"c", all, 1}}, "yyyy"},
		{"a header that is no rollup there", jetstream.StreamSettings{MaxMessages: 100}, "ab", "xx", old, []came{{"c", all, 1}}, "--"},
		{"a message came and is gone", oldest(jetstream.StreamSettings{MaxMessages: 4, MaxMessagesOfSubject: 1}), "abcd", "xx--", 3, []came{{}, {"e", "", 1}}, "yy--"},
		{"the last that came is gone", oldest(jetstream.StreamSettings{MaxMessages: 4, AllowRollup: true}), "abcd", "xx--", 3, []came{{"e", "", 1}, {}}, "yy--"},
		{"a message came and was deleted", oldest(jetstream.StreamSettings{MaxMessages: 4}), "abcd", "xx--", 3, []came{{}, {"e", "", 1}}, "y---"},
		{"a rollup needs room before it makes any", oldest(jetstream.StreamSettings{AllowRollup: true, MaxMessages: 4}), "abbb", "xxxx", 5, []came{{"b", sub, 1}}, "yyyy"},
		{"a rollup makes room", oldest(jetstream.StreamSettings{AllowRollup: true, MaxMessages: 4}), "aabb", "xx--", 3, []came{{"a", sub, 1}, {"c", "", 1}}, "yy--"},
		{"a key makes room for another", oldest(jetstream.StreamSettings{MaxMessagesOfSubject: 1, MaxMessages: 3}), "abc", "x-x", 2, []came{{"c", "", 1}, {"d", "", 1}}, "y-y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := successionIn(&StreamPlan{config: c.settings, state: archive.State{LastSeq: uint64(len(c.restored))}})
			var seq uint64
			for i, subject := range c.restored {
				seq++
				m := message(seq, string(subject), "", 10)
				if c.gone[i] == 'x' {
					x.missing(m)
				} else {
					x.restored(m)
				}
			}
			for _, m := range c.came {
				if seq++; m.subject != "" {
					x.arrived(message(seq, m.subject, m.header, m.payload))
				}
			}
			if x == nil {
				x = &succession{}
			}
			x.unfold(c.first, seq)
			got := bytes.Repeat([]byte("-"), len(c.restored))
			for _, g := range x.gone {
				if g.replaced {
					got[g.seq-1] = 'y'
				}
			}
			if string(got) != c.explains {
				t.Errorf("of %s missing %s it explains %s, want %s", c.restored, c.gone, got, c.explains)
			}
		})
	}
}
