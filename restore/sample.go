package restore

import (
	"math/rand/v2"

	"jetsam/streamlog"
)

// sample keeps a run of the stream's groups, anywhere, that has about c.Sample bytes in the repository.
func (p *Plan) sample(s *StreamPlan, c Cut) {
	sizes := make([]uint64, len(s.stretches))
	var total uint64
	for i := range s.stretches {
		for _, id := range s.stretches[i].ids {
			n, _ := p.rd.Size(dataBlob(id))
			sizes[i] += uint64(n)
		}
		total += sizes[i]
	}
	if total <= c.Sample {
		return
	}
	from := rand.New(rand.NewPCG(c.Seed, uint64(len(sizes)))).Uint64N(total - c.Sample + 1)
	first := 0
	for ; from > sizes[first] && first < len(sizes)-1; first++ {
		from -= sizes[first]
	}
	last, got := first, sizes[first]
	for last < len(sizes)-1 && got < c.Sample {
		last++
		got += sizes[last]
	}
	want := streamlog.Run{First: s.stretches[first].First, Last: s.stretches[last].Last}
	for _, l := range s.logs() {
		l.want = streamlog.Run{First: max(l.want.First, want.First), Last: min(l.want.Last, want.Last)}
	}
	s.stretches = clip(s.stretches)
	s.sampled = true
}

// Sampled says whether only a run of the stream's messages is restored that stands for all.
func (s *StreamPlan) Sampled() bool { return s.sampled }
