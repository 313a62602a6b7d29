package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"jetsam/index"
	"jetsam/storage"
)

// The first byte of an unpacked file's plaintext; part of the format. Files
// without compression begin with the JSON itself.
const encodingZstd = 2

// Limits on the stored length of files that are read whole, in bytes.
const (
	maxConfigFile = 1 << 20
	maxKeyFile    = 1 << 20
	maxLockFile   = 1 << 20
	maxFile       = maxUnpacked
	maxIndexFile  = index.MaxFileSize
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
	stored, err := loadStored(ctx, r.be, f, info.Size)
	if err != nil || f.Kind == storage.Key {
		return stored, err
	}
	plain, err := r.codec.openFile(f.Kind, stored)
	if err != nil {
		return nil, damaged(f, err)
	}
	return plain, nil
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
	plain, err := c.key.Open(nil, sealed)
	if err != nil || k == storage.Config {
		return plain, err
	}
	if len(plain) == 0 {
		return nil, errors.New("file is empty")
	}
	switch plain[0] {
	case encodingZstd:
		return c.decompressFile(k, plain[1:])
	case '{', '[':
		return plain, nil
	default:
		return nil, fmt.Errorf("unknown encoding %d", plain[0])
	}
}

func (c *codec) decompressFile(k storage.Kind, payload []byte) ([]byte, error) {
	dec := c.fileDec
	if k == storage.Index {
		dec = c.indexDec
	}
	text, err := dec.DecodeAll(payload, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	return text, nil
}
