package backup

import (
	"jetsam/jetstream/archive"
)

// meterStep is after how many bytes a capture reports its progress again.
const meterStep = 1 << 20

// meter counts what a capture received. It belongs to the goroutine that reads the stream.
type meter struct {
	p      Progress
	next   uint64
	report func(Progress)
}

func (b *run) meter(name string, s archive.State) *meter {
	m := &meter{p: Progress{Stream: name, TotalMessages: s.Messages, TotalBytes: s.Bytes}, report: b.report}
	m.report(m.p)
	return m
}

func (m *meter) add(msg *archive.Message) {
	m.p.Messages++
	m.p.Bytes += uint64(len(msg.Subject) + len(msg.Header) + len(msg.Payload))
	if m.p.Bytes >= m.next {
		m.next = m.p.Bytes + meterStep
		m.report(m.p)
	}
}

func (b *run) report(p Progress) {
	if b.o.Progress != nil {
		b.o.Progress(p)
	}
}
