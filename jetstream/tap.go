package jetstream

import (
	"bytes"
	"sync"
)

// maxTapped is how many bytes of header blocks a tap keeps for messages that the client has not delivered yet.
const maxTapped = 64 << 20

// taps are the consumers of a connection whose messages' header blocks are kept as they come over the wire. nats.go delivers headers
// as a map, which has lost their order, their spaces and what is no proper header.
type taps struct {
	mu  sync.RWMutex
	all []*tap
}

// tap keeps the header blocks of the messages that one consumer delivers, in the order in which they come, until the client delivers
// the messages too. Where it sees nothing, as inside of TLS, it keeps nothing.
type tap struct {
	token []byte // the consumer's name between two dots, as in the reply subject of each message that it delivers

	mu     sync.Mutex
	blocks []tapped
	size   int // bytes of blocks
}

// tapped is the header block of the message with that reply subject, which no two messages of a consumer share.
type tapped struct {
	reply  string
	header []byte
}

// add begins to keep what the consumer of that name delivers. No other consumer may ever have it.
func (t *taps) add(consumer string) *tap {
	one := &tap{token: []byte("." + consumer + ".")}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, one)
	return one
}

func (t *taps) remove(one *tap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.all {
		if other == one {
			t.all = append(t.all[:i:i], t.all[i+1:]...)
			return
		}
	}
}

// of returns the tap that keeps messages with that reply subject, or nil.
func (t *taps) of(reply []byte) *tap {
	if t == nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, one := range t.all {
		if bytes.Contains(reply, one.token) {
			return one
		}
	}
	return nil
}

// push keeps a header block. Where there are too many the oldest go: their messages have to be asked for.
func (t *tap) push(reply string, header []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blocks = append(t.blocks, tapped{reply, header})
	t.size += len(header)
	for t.size > maxTapped {
		t.drop()
	}
}

// pop returns the header block of the message with that reply subject and so many bytes of headers, or nil. It forgets that and
// all that came before. Of a message without a reply subject, as heartbeats are, nothing is kept.
func (t *tap) pop(reply string, size int) []byte {
	if reply == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.blocks) > 0 {
		first := t.drop()
		if first.reply == reply {
			if len(first.header) != size {
				return nil
			}
			return first.header
		}
	}
	return nil
}

func (t *tap) drop() tapped {
	first := t.blocks[0]
	t.blocks[0] = tapped{}
	t.blocks = t.blocks[1:]
	t.size -= len(first.header)
	return first
}
