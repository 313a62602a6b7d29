package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"jetsam/internal/strictjson"
)

// What a list may hold. A server that has no end of names is not believed.
const (
	maxListed      = 1 << 20   // names; hundreds of thousands of consumers were seen
	maxListedBytes = 128 << 20 // of the names' content together
)

// askers is how many missing streams or consumers are asked for at a time: those that nobody answers for each take as long as the timeout.
const askers = 16

// maxListings is how often a list is taken anew that changed while its pages were read.
const maxListings = 5

// MissingError reports streams or consumers that exist, but of which no server could say more: their leader is away.
// What is known of the others comes with it.
type MissingError struct {
	Of      string           // "streams", or "consumers of ORDERS"
	Reasons map[string]error // by name
}

// mostNamed is how many names an error tells.
const mostNamed = 10

func (e *MissingError) Error() string {
	names := slices.Sorted(maps.Keys(e.Reasons))
	named := names[:min(len(names), mostNamed)]
	text := strings.Join(named, ", ")
	if more := len(names) - len(named); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("no information about %s %s: %v", e.Of, text, e.Reasons[names[0]])
}

// page is an answer to STREAM.LIST or CONSUMER.LIST: at most 256 entries, sorted by name.
type page struct {
	Total     int               `json:"total"`
	Offset    int               `json:"offset"`
	Streams   []json.RawMessage `json:"streams"`
	Consumers []json.RawMessage `json:"consumers"`
	Missing   []string          `json:"missing"`
}

// listing is a whole list, from all its pages. A name that is missing may be among found too, with made up content.
type listing struct {
	found   map[string]json.RawMessage
	missing map[string]bool
	total   int
	bytes   int // of found and missing
}

// list reads a list to its end. Names may come and go meanwhile and move others from one page to another: the list is
// taken anew until it holds as many names as the server counts. nameOf returns the name of an entry.
func (c *Conn) list(ctx context.Context, endpoint string, nameOf func(json.RawMessage) (string, error)) (*listing, error) {
	for range maxListings {
		l, steady, err := c.listOnce(ctx, endpoint, nameOf)
		if err != nil {
			return nil, err
		}
		if steady && l.names() == l.total {
			return l, nil
		}
	}
	return nil, fmt.Errorf("list changed each of %d times it was read", maxListings)
}

// listOnce reads the pages of a list and reports whether all of them counted the same.
func (c *Conn) listOnce(ctx context.Context, endpoint string, nameOf func(json.RawMessage) (string, error)) (l *listing, steady bool, err error) {
	l = &listing{found: map[string]json.RawMessage{}, missing: map[string]bool{}}
	for offset := 0; ; offset = l.names() {
		raw, err := c.api(ctx, endpoint, fmt.Appendf(nil, `{"offset":%d}`, offset))
		if err != nil {
			return nil, false, err
		}
		var p page
		if err := strictjson.Decode(raw, &p); err != nil {
			return nil, false, fmt.Errorf("decode list: %w", err)
		}
		if offset > 0 && p.Total != l.total {
			return l, false, nil
		}
		if p.Total > maxListed {
			return nil, false, fmt.Errorf("the server counts %d names, past the limit of %d", p.Total, maxListed)
		}
		l.total = p.Total
		if err := l.add(&p, nameOf); err != nil {
			return nil, false, err
		}
		if n := l.names(); n >= l.total || n == offset {
			return l, true, nil
		}
	}
}

func (l *listing) add(p *page, nameOf func(json.RawMessage) (string, error)) error {
	for _, raw := range slices.Concat(p.Streams, p.Consumers) {
		name, err := nameOf(raw)
		if err != nil {
			return fmt.Errorf("decode list: %w", err)
		}
		l.found[name] = raw
		l.bytes += len(name) + len(raw)
	}
	for _, name := range p.Missing {
		l.missing[name] = true
		l.bytes += len(name)
	}
	if l.bytes > maxListedBytes {
		return fmt.Errorf("the server's list is past the limit of %d MiB after %d of %d names", maxListedBytes>>20, l.names(), l.total)
	}
	return nil
}

// names counts the names in l.
func (l *listing) names() int {
	n := len(l.found)
	for name := range l.missing {
		if _, twice := l.found[name]; !twice {
			n++
		}
	}
	return n
}

// Streams lists all streams of the account by name, those included that the nats command line hides (KV_, OBJ_, $MQTT_).
// If the server knows of streams that it cannot say more about, those that it can come with a *MissingError.
func (c *Conn) Streams(ctx context.Context) ([]*StreamInfo, error) {
	l, err := c.list(ctx, "STREAM.LIST", streamName)
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	all, missing, err := collect(l, parseStreamInfo, func(name string) (*StreamInfo, error) {
		return c.streamInfo(ctx, name)
	})
	if err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	slices.SortFunc(all, func(a, b *StreamInfo) int { return cmp.Compare(a.Name, b.Name) })
	if len(missing) > 0 {
		return all, &MissingError{Of: "streams", Reasons: missing}
	}
	return all, nil
}

// collect parses the entries of l, and asks once more for each of those that are missing. Those that nothing is found out about are returned
// by name.
func collect[T any](l *listing, parse func(json.RawMessage) (T, error), ask func(name string) (T, error)) (all []T, missing map[string]error, err error) {
	for name, raw := range l.found {
		if l.missing[name] {
			continue
		}
		one, err := parse(raw)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	missing = map[string]error{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(askers)
	for name := range l.missing {
		g.Go(func() error {
			one, err := ask(name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing[name] = err
			} else {
				all = append(all, one)
			}
			return nil
		})
	}
	_ = g.Wait() // there are no errors
	return all, missing, nil
}

func streamName(raw json.RawMessage) (string, error) {
	var entry struct {
		Config struct {
			Name string `json:"name"`
		} `json:"config"`
	}
	err := strictjson.Decode(raw, &entry)
	return entry.Config.Name, err
}
