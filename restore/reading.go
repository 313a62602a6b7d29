package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// Reading is one stream as a restore would give it, to be looked at. No server is asked.
type Reading struct {
	plan *Plan
	s    *StreamPlan
}

// Read opens the one chosen stream of a snapshot for reading. It fails as NewPlan does.
func Read(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, o Options) (*Reading, error) {
	p, err := choose(ctx, rd, sn, o)
	if err != nil {
		return nil, err
	}
	return p.reading(ctx)
}

// ReadAt opens the one chosen stream as it was at the time Options.Cut.At. It fails as NewPlanAt does.
func ReadAt(ctx context.Context, rd *repo.Reader, snapshots []*snapshot.Snapshot, o Options) (*Reading, error) {
	p, err := chooseAt(ctx, rd, snapshots, o)
	if err != nil {
		return nil, err
	}
	return p.reading(ctx)
}

func (p *Plan) reading(ctx context.Context) (*Reading, error) {
	if len(p.Streams) != 1 {
		return nil, &RequestError{Reason: fmt.Sprintf("%d streams are chosen: choose one", len(p.Streams))}
	}
	p.Options.KeepSources, p.Options.NoConsumers, p.Options.Target.ApplyLimits = true, true, true // only messages are looked at, as they are
	if err := p.examineAll(ctx); err != nil {
		return nil, err
	}
	s := p.Streams[0]
	if s.Damage == nil {
		if err := p.probe(ctx, s); err != nil {
			return nil, err
		}
	}
	if s.Damage != nil {
		return nil, s.Damage
	}
	p.tellGaps(s)
	return &Reading{p, s}, nil
}

// Stream is the stream's name.
func (r *Reading) Stream() string { return r.s.Source }

// Snapshot is what the stream is read from.
func (r *Reading) Snapshot() *snapshot.Snapshot { return r.s.From }

// Warnings are about what cannot be told.
func (r *Reading) Warnings() []string { return append(slices.Clone(r.plan.Warnings), r.s.Warnings...) }

// Lost is what the repository does not give of the stream, where damage is skipped; nil: nothing.
func (r *Reading) Lost() *DamageError { return r.s.Lost }

// Messages yields the stream's messages in the order of their sequences. A message is valid until the next one. An error ends them.
func (r *Reading) Messages(ctx context.Context) iter.Seq2[*archive.Message, error] {
	return func(yield func(*archive.Message, error) bool) {
		next, stop := r.plan.messages(ctx, r.s)
		defer stop()
		for {
			m, err := next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(m, plainDamage(err)) || err != nil {
				return
			}
		}
	}
}

// Last is the last message of a subject, in memory of its own, or nil. It is looked for from the end.
func (r *Reading) Last(ctx context.Context, subject string) (*archive.Message, error) {
	for i := len(r.s.stretches) - 1; i >= 0; i-- {
		x := &r.s.stretches[i]
		if x.lost() {
			continue
		}
		var last *archive.Message
		next := x.log.wanted(r.plan.reader(ctx, x))
		for {
			m, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, r.s.lossAt(x, err)
			}
			if string(m.Subject) == subject {
				last = archive.NewMessage(subject, m.Time, m.Seq, m.Header, m.Payload)
			}
		}
		if last != nil {
			return last, nil
		}
	}
	return nil, nil
}

// lossAt is why a stretch cannot be read: it names the messages that are lost with it. What a storage does not give just now is not lost.
func (s *StreamPlan) lossAt(x *stretch, err error) error {
	if !errors.Is(err, repo.ErrCorrupt) {
		return x.unreadable(err)
	}
	l := x.Loss
	l.Reason = err
	return &DamageError{Lost: []Loss{l}, Total: s.total} // what else is lost is not known
}

// Key is the last entry of a key of a bucket, whose stream this is.
func (r *Reading) Key(ctx context.Context, key string) (*archive.Message, error) {
	bucket, ok := strings.CutPrefix(r.s.Source, "KV_")
	if !ok {
		return nil, &RequestError{Stream: r.s.Source, Reason: "it is no key-value store: those are called KV_ and the bucket's name"}
	}
	m, err := r.Last(ctx, "$KV."+bucket+"."+key)
	switch {
	case err != nil:
		return nil, err
	case m == nil && r.s.Lost != nil:
		return nil, fmt.Errorf("stream %s: key %q is not in what is whole of it: %w", r.s.Source, key, r.s.Lost)
	case m == nil:
		return nil, &RequestError{Stream: r.s.Source, Reason: fmt.Sprintf("there is no key %q", key)}
	}
	if op := headerOf(m, "KV-Operation"); op == "DEL" || op == "PURGE" {
		return nil, &RequestError{Stream: r.s.Source, Reason: fmt.Sprintf("key %q was deleted on %s, with message %d", key, when(time.Unix(0, m.Time)), m.Seq)}
	}
	return m, nil
}

// objectInfo is what a store says of one of its objects.
type objectInfo struct {
	NUID    string          `json:"nuid"`
	Size    uint64          `json:"size"`
	Chunks  uint64          `json:"chunks"`
	Digest  string          `json:"digest"`
	Deleted bool            `json:"deleted"`
	Options json.RawMessage `json:"options"`
}

// link says whether an object is only a name for another one.
func (o *objectInfo) link() bool {
	var options struct {
		Link json.RawMessage `json:"link"`
	}
	return json.Unmarshal(o.Options, &options) == nil && len(options.Link) > 0
}

// digestPrefix begins the digest of an object.
const digestPrefix = "SHA-256="

// Object writes an object of an object store, whose stream this is, to w, and then compares its size and digest.
func (r *Reading) Object(ctx context.Context, name string, w io.Writer) error {
	bucket, ok := strings.CutPrefix(r.s.Source, "OBJ_")
	if !ok {
		return &RequestError{Stream: r.s.Source, Reason: "it is no object store: those are called OBJ_ and the bucket's name"}
	}
	prefix := "$O." + bucket
	m, err := r.Last(ctx, prefix+".M."+base64.URLEncoding.EncodeToString([]byte(name)))
	if err != nil {
		return err
	}
	var about objectInfo
	switch {
	case m == nil:
		return &RequestError{Stream: r.s.Source, Reason: fmt.Sprintf("there is no object %q", name)}
	case json.Unmarshal(m.Payload, &about) != nil:
		return fmt.Errorf("stream %s: what message %d says of object %q is no JSON", r.s.Source, m.Seq, name)
	case about.Deleted:
		return &RequestError{Stream: r.s.Source, Reason: fmt.Sprintf("object %q was deleted on %s, with message %d", name, when(time.Unix(0, m.Time)), m.Seq)}
	case about.link():
		return &RequestError{Stream: r.s.Source, Reason: fmt.Sprintf("object %q is a link to another one", name)}
	}
	return r.copyObject(ctx, name, prefix+".C."+about.NUID, &about, w)
}

// copyObject writes an object's chunks.
func (r *Reading) copyObject(ctx context.Context, name, subject string, about *objectInfo, w io.Writer) error {
	sum := sha256.New()
	var size, chunks uint64
	for m, err := range r.Messages(ctx) {
		if err != nil {
			return err
		}
		if !bytes.Equal(m.Subject, []byte(subject)) {
			continue
		}
		sum.Write(m.Payload)
		size, chunks = size+uint64(len(m.Payload)), chunks+1
		if _, err := w.Write(m.Payload); err != nil {
			return err
		}
	}
	if size != about.Size || chunks != about.Chunks {
		return fmt.Errorf("stream %s: object %q has %d bytes in %d chunks here, and should have %d in %d: what was written is not the object",
			r.s.Source, name, size, chunks, about.Size, about.Chunks)
	}
	if want, ok := strings.CutPrefix(about.Digest, digestPrefix); ok && want != base64.URLEncoding.EncodeToString(sum.Sum(nil)) {
		return fmt.Errorf("stream %s: object %q does not have the digest that the store says: what was written is not the object", r.s.Source, name)
	}
	return nil
}
