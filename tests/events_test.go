package tests

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// eventMaker makes JSON events as services publish them: few field names, many repeated values, some random IDs. The same seed gives the same events.
func eventMaker(seed uint64) func(size int) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	names := []string{"blue widget", "red gadget", "green gizmo", "small grommet", "large flange", "steel bracket"}
	countries := []string{"de", "fr", "jp", "us", "br", "in"}
	at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	n := 0
	return func(size int) []byte {
		n++
		at = at.Add(time.Duration(r.IntN(40)) * time.Millisecond)
		var b strings.Builder
		fmt.Fprintf(&b, `{"id":"%016x%016x","type":"order.created","source":"checkout","n":%d,"time":%q,"customer":{"id":%d,"country":%q,"email":"user%d@example.com"},"items":[`,
			r.Uint64(), r.Uint64(), n, at.Format(time.RFC3339Nano), r.IntN(100_000), countries[r.IntN(len(countries))], r.IntN(100_000))
		for first := true; b.Len() < size-130 || first; first = false {
			if !first {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"sku":"SKU-%06d","quantity":%d,"price":%d.%02d,"name":%q,"warehouse":%d}`,
				r.IntN(50_000), r.IntN(9)+1, r.IntN(500), r.IntN(100), names[r.IntN(len(names))], r.IntN(40))
		}
		fmt.Fprintf(&b, `],"trace":"%016x"}`, r.Uint64())
		return []byte(b.String())
	}
}
