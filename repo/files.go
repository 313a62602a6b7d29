package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"jetsam/index"
	"jetsam/storage"
)

// The first byte of an unpacked file's plaintext; part of the format. Files
// without compression begin with the JSON itself.
const encodingZstd = 2

// Limits on files that are read whole, in bytes: stored, and once they are
// decompressed.
const (
	maxConfigFile = 1 << 20
	maxKeyFile    = 1 << 20
	maxLockFile   = 1 << 20
	maxFile       = maxUnpacked
	maxIndexFile  = index.MaxFileSize

	// largeFile is the length from which files are parsed one at a time.
	largeFile = 4 << 20
)

func maxStored(k storage.Kind) int64 {
	switch k {
	case storage.Config:
		return maxConfigFile
	case storage.Key:
		return maxKeyFile
	case storage.Lock:
		return maxLockFile
	case storage.Index:
		return maxIndexFile
	case storage.Pack:
		return maxPackRead
	default:
		return maxFile
	}
}

// loadStored returns the bytes of a file as they are stored, when their hash is
// the file's name. A size below 0 means that it is not known.
func loadStored(ctx context.Context, be storage.Backend, f storage.File, size int64) ([]byte, error) {
	if size < 0 {
		info, err := be.Stat(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("load %v: %w", f, err)
		}
		size = info.Size
	}
	if limit := maxStored(f.Kind); size > limit {
		return nil, damaged(f, fmt.Errorf("%d bytes are more than %d", size, limit))
	}
	var data []byte
	for range 2 { // what is damaged on the way may be sound at the second try
		var err error
		if data, err = be.Load(ctx, f, 0, -1); err != nil {
			return nil, fmt.Errorf("load %v: %w", f, err)
		}
		if f.Kind == storage.Config || storage.Sum(data) == f.ID {
			return data, nil
		}
	}
	return data, damaged(f, errHash)
}

var errHash = errors.New("content does not match the name")

// LoadUnpacked returns the JSON of a file that is not a pack. A key file is not
// encrypted as a whole: what it returns are the bytes that are stored.
func (r *Repo) LoadUnpacked(ctx context.Context, f storage.File) ([]byte, error) {
	return r.loadUnpacked(ctx, storage.Info{File: f, Size: -1})
}

func (r *Repo) loadUnpacked(ctx context.Context, info storage.Info) ([]byte, error) {
	f := info.File
	if f.Kind == storage.Pack {
		return nil, fmt.Errorf("%v is a pack", f)
	}
	stored, err := r.loadCached(ctx, f, info.Size)
	if err != nil || f.Kind == storage.Key {
		return stored, err
	}
	plain, err := r.codec.openFile(f.Kind, stored)
	if err != nil {
		return nil, damaged(f, err)
	}
	return plain, nil
}

// parseUnpacked calls parse with the JSON of a file that is not a pack. While a
// large one is in memory all others wait: several are read at a time, and a
// hostile repository could make each as large as it may be.
func (r *Repo) parseUnpacked(ctx context.Context, info storage.Info, parse func(text []byte) error) error {
	f := info.File
	if info.Size > largeFile {
		return r.parseLarge(ctx, info, parse)
	}
	stored, err := r.loadCached(ctx, f, info.Size)
	if err != nil {
		return err
	}
	text, err := r.codec.openFileUpTo(f.Kind, stored, largeFile)
	if errors.Is(err, errTooLong) {
		return r.parseLarge(ctx, info, parse)
	}
	if err == nil {
		err = parse(text)
	}
	if err != nil {
		return damaged(f, err)
	}
	return nil
}

func (r *Repo) parseLarge(ctx context.Context, info storage.Info, parse func(text []byte) error) error {
	r.large.Lock()
	defer r.large.Unlock()
	text, err := r.loadUnpacked(ctx, info)
	if err != nil {
		return err
	}
	if err := parse(text); err != nil {
		return damaged(info.File, err)
	}
	return nil
}

// saveUnpacked stores JSON as a new file of kind k, and returns how long the file
// is. What was sealed is opened again before it is stored.
func (r *Repo) saveUnpacked(ctx context.Context, k storage.Kind, text []byte) (id storage.ID, size int, err error) {
	sealed, err := r.codec.sealFile(k, text, r.config.Version > 1)
	if err != nil {
		return storage.ID{}, 0, fmt.Errorf("save %v: %w", k, err)
	}
	f := storage.File{Kind: k}
	if k != storage.Config {
		f.ID = storage.Sum(sealed)
	}
	if err := r.be.Save(ctx, f, sealed); err != nil {
		return storage.ID{}, 0, err // which names the file
	}
	return f.ID, len(sealed), nil
}

// storedTries is how often a file that was saved is looked for: some places take a
// moment to show what they took.
const storedTries = 3

// stored returns nil if f, which was saved, is there with size bytes.
func (r *Repo) stored(ctx context.Context, f storage.File, size int) error {
	info, err := r.be.Stat(ctx, f)
	for try := 1; try < storedTries && errors.Is(err, storage.ErrNotExist); try++ {
		if err := storage.Sleep(ctx, r.opts.LockWait); err != nil {
			return err
		}
		info, err = r.be.Stat(ctx, f)
	}
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return damaged(f, fmt.Errorf("the storage said that it was saved: %w", err))
	case err != nil:
		return fmt.Errorf("look for %v, which was saved: %w", f, err)
	case info.Size != int64(size):
		return damaged(f, fmt.Errorf("the storage has %d bytes of the %d that were saved", info.Size, size))
	}
	return nil
}

// readBack is stored, and also reads f and compares its hash with its name.
func (r *Repo) readBack(ctx context.Context, f storage.File, size int) error {
	if err := r.stored(ctx, f, size); err != nil {
		return err
	}
	if _, err := loadStored(ctx, r.be, f, int64(size)); err != nil {
		return fmt.Errorf("read back what was saved: %w", err)
	}
	return nil
}

// sealFile returns the stored form of a file that is not a pack.
func (c *codec) sealFile(k storage.Kind, text []byte, compress bool) ([]byte, error) {
	payload := text
	if compress && k != storage.Config {
		payload = c.enc.EncodeAll(text, []byte{encodingZstd})
	}
	sealed := c.key.Seal(nil, payload)
	again, err := c.openFile(k, sealed)
	if err != nil {
		return nil, fmt.Errorf("read sealed file back: %w", err)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("read sealed file back: it differs from what was sealed")
	}
	return sealed, nil
}

// openFile is the reverse of sealFile.
func (c *codec) openFile(k storage.Kind, sealed []byte) ([]byte, error) {
	return c.openFileUpTo(k, sealed, int(maxStored(k)))
}

// openFileUpTo is openFile for at most limit bytes, which are not more than the
// kind's; the error is errTooLong if there are more.
func (c *codec) openFileUpTo(k storage.Kind, sealed []byte, limit int) ([]byte, error) {
	plain, err := c.key.Open(nil, sealed)
	if err != nil || k == storage.Config {
		return plain, err
	}
	if len(plain) == 0 {
		return nil, errors.New("file is empty")
	}
	switch plain[0] {
	case encodingZstd:
		return c.decompressUpTo(plain[1:], min(limit, int(maxStored(k))))
	case '{', '[':
		return plain, nil
	default:
		return nil, fmt.Errorf("unknown encoding %d", plain[0])
	}
}

var errTooLong = errors.New("too long")

// decompressUpTo returns what payload holds, at most limit bytes. A frame need not
// say how much that is, and several may follow each other; so it is tried with
// more and more room.
func (c *codec) decompressUpTo(payload []byte, limit int) ([]byte, error) {
	for room := firstRoom(payload); ; room *= 4 {
		room = min(room, limit)
		text, err := c.dec.DecodeAll(payload, make([]byte, 0, room+decodeRoom))
		switch {
		case len(text) > limit, room == limit && tooLong(err):
			return nil, fmt.Errorf("decompress: %w: more than %d bytes", errTooLong, limit)
		case err == nil:
			return text, nil
		case !tooLong(err):
			return nil, fmt.Errorf("decompress: %w", err)
		}
	}
}

func tooLong(err error) bool { return errors.Is(err, zstd.ErrDecoderSizeExceeded) }

// firstRoom is what the first frame says that it holds, or else a guess.
func firstRoom(payload []byte) int {
	const least, leastGuess, most = 1 << 10, 64 << 10, 1 << 30
	var h zstd.Header
	if h.Decode(payload) == nil && h.HasFCS {
		return int(min(max(h.FrameContentSize, least), most))
	}
	return max(4*len(payload), leastGuess)
}
