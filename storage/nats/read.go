package nats

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"jetsam/storage"
)

// maxHeads is how many heads of large files are remembered.
const maxHeads = 4096

// message is one of the stream.
type message struct {
	subject string
	header  natsgo.Header
	data    []byte
	time    time.Time
}

// head says where the content of a file is.
type head struct {
	size    int64
	upload  string
	inline  []byte   // the content, where there are no chunks
	chunk   int64    // length of all chunks but the last
	subject string   // of the chunks
	at      []uint64 // their sequences
}

var errHead = errors.New("the head of the file is not what was stored")

// parseHead reads the head of a file.
func (b *Backend) parseHead(f storage.File, m *message) (*head, error) {
	info, ok := b.headOf(f.Kind, m.subject)
	if !ok || info.File != f {
		return nil, errHead
	}
	h := &head{size: info.Size, upload: m.header.Get(uploadHeader)}
	text := m.header.Get(chunkHeader)
	if text == "" {
		if int64(len(m.data)) != h.size {
			return nil, errHead
		}
		h.inline = m.data
		return h, nil
	}
	var err error
	if h.chunk, err = strconv.ParseInt(text, 10, 32); err != nil || h.chunk < 1 || h.upload == "" {
		return nil, errHead
	}
	n := int64(len(m.data) / 8)
	if len(m.data)%8 != 0 || h.size <= (n-1)*h.chunk || h.size > n*h.chunk {
		return nil, errHead
	}
	for i := range n {
		h.at = append(h.at, binary.BigEndian.Uint64(m.data[8*i:]))
	}
	h.subject = b.chunkSubject(f, h.upload)
	return h, nil
}

// headAtLeader asks the stream's leader for the head of a file.
func (b *Backend) headAtLeader(ctx context.Context, f storage.File) (*head, error) {
	m, err := b.fromLeader(ctx, map[string]any{"last_by_subj": b.headSubject(f, "*")})
	if err != nil {
		return nil, err
	}
	return b.parseHead(f, m)
}

// head returns the head of a file, and whether it was remembered.
func (b *Backend) head(ctx context.Context, f storage.File) (h *head, remembered bool, err error) {
	b.mu.Lock()
	h = b.heads[f]
	b.mu.Unlock()
	if h != nil {
		return h, true, nil
	}
	m, err := b.get(ctx, map[string]any{"last_by_subj": b.headSubject(f, "*")})
	if err != nil {
		return nil, false, err
	}
	if h, err = b.parseHead(f, m); err != nil {
		return nil, false, err
	}
	if h.subject != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.heads) >= maxHeads {
			clear(b.heads)
		}
		b.heads[f] = h
	}
	return h, false, nil
}

func (b *Backend) forget(f storage.File) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.heads, f)
}

// get fetches a message from any server that has it.
func (b *Backend) get(ctx context.Context, request map[string]any) (*message, error) {
	data, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	answer, err := b.ask(ctx, b.api+"DIRECT.GET."+b.place.Stream, nil, data)
	if err != nil {
		return nil, err
	}
	if subject := answer.Header.Get("Nats-Subject"); answer.Header.Get("Status") == "" && subject != "" {
		return &message{subject: subject, header: answer.Header, data: answer.Data}, nil
	}
	return b.fromLeader(ctx, request) // this one may not have it yet
}

// fromLeader fetches a message from the stream's leader.
func (b *Backend) fromLeader(ctx context.Context, request map[string]any) (*message, error) {
	var response struct {
		Message struct {
			Subject string    `json:"subject"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := b.call(ctx, "STREAM.MSG.GET", request, &response); err != nil {
		return nil, err
	}
	m := &message{subject: response.Message.Subject, data: response.Message.Data, time: response.Message.Time}
	if len(response.Message.Header) > 0 {
		var err error
		if m.header, err = natsgo.DecodeHeadersMsg(response.Message.Header); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	err := storage.Check(ctx, f)
	var data []byte
	if err == nil {
		data, err = b.load(ctx, f, off, n)
	}
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, err)
	}
	return data, nil
}

func (b *Backend) load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	h, remembered, err := b.head(ctx, f)
	if err != nil {
		return nil, err
	}
	data, err := b.content(ctx, h, off, n)
	if !remembered || !errors.Is(err, errChunk) {
		return data, err
	}
	b.forget(f) // it may have been removed, and stored anew
	if h, _, err = b.head(ctx, f); err != nil {
		return nil, err
	}
	return b.content(ctx, h, off, n)
}

// errChunk says that part of a file is gone, or is not what was stored.
var errChunk = fmt.Errorf("a chunk of the file is lost: %w", io.ErrUnexpectedEOF)

// content fetches n bytes of a file from off.
func (b *Backend) content(ctx context.Context, h *head, off int64, n int) ([]byte, error) {
	n, err := storage.Range(h.size, off, n)
	if err != nil {
		return nil, err
	}
	if h.subject == "" {
		return append(make([]byte, 0, n), h.inline[off:off+int64(n)]...), nil
	}
	if n == 0 {
		return []byte{}, nil
	}
	data := make([]byte, n)
	first, last := off/h.chunk, (off+int64(n)-1)/h.chunk
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := first; i <= last; i++ {
		g.Go(func() error {
			chunk, err := b.chunkOf(ctx, h, i)
			if err != nil {
				return err
			}
			from := max(off-i*h.chunk, 0)
			copy(data[max(i*h.chunk-off, 0):], chunk[from:])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return data, nil
}

// chunkOf fetches the chunk of that index.
func (b *Backend) chunkOf(ctx context.Context, h *head, i int64) ([]byte, error) {
	m, err := b.get(ctx, map[string]any{"seq": h.at[i]})
	if errors.Is(err, storage.ErrNotExist) {
		return nil, errChunk
	}
	if err != nil {
		return nil, err
	}
	if m.subject != h.subject || int64(len(m.data)) != min(h.chunk, h.size-i*h.chunk) {
		return nil, errChunk
	}
	return m.data, nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	err := storage.Check(ctx, f)
	var info storage.Info
	if err == nil {
		info, err = b.find(ctx, f)
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return info, nil
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		err := storage.Check(ctx, storage.File{Kind: k})
		var subjects map[string]uint64
		if err == nil {
			subjects, err = b.subjects(ctx, b.prefix()+"f."+k.String()+".>")
		}
		for subject := range subjects {
			info, ok := b.headOf(k, subject)
			if !ok {
				continue
			}
			if !yield(info, nil) {
				return
			}
			if err = storage.Cancelled(ctx); err != nil {
				break
			}
		}
		if err != nil {
			yield(storage.Info{}, fmt.Errorf("list %v files: %w", k, err))
		}
	}
}
