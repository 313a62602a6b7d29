package index

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"jetsam/blob"
	"jetsam/pack"
	"jetsam/storage"
)

// MaxFileSize is the longest index file that is read, in bytes of JSON: the blobs of
// a pack that is full to the last one fit. Writers stay far below.
const MaxFileSize = 96 << 20

// minSealed is the length of an empty sealed blob; part of the format.
const minSealed = 32

// Pack says what one pack holds.
type Pack struct {
	ID    storage.ID
	Blobs []pack.Blob // in order of their offsets
}

// Unused says which packs nothing needed any more at a time. They are listed no
// more, and can be deleted once whoever was at work then has ended.
type Unused struct {
	Since time.Time
	Packs []storage.ID
}

// File is the content of an index file.
type File struct {
	Packs      []Pack
	Supersedes []storage.ID // older index files, whose place it takes
	Unused     []Unused
	Unknown    bool // it has fields that are not known here, and that another encoding would lack
}

// Encode returns the content of an index file that lists packs:
//
//	{"packs":[{"id":"<pack>","blobs":[
//	  {"id":"<blob>","type":"data","offset":0,"length":38},
//	  {"id":"<blob>","type":"data","offset":38,"length":112,"uncompressed_length":511}]}]}
//
// without the white space. If it takes the place of older ones, "supersedes":["<index file>",…] comes
// before the packs. It refuses to list nothing.
func Encode(packs []Pack, supersedes ...storage.ID) ([]byte, error) {
	if len(packs) == 0 {
		return nil, errors.New("encode index: no packs")
	}
	dst := append(make([]byte, 0, encodedSize(packs, supersedes)), '{')
	dst = appendSupersedes(dst, supersedes)
	dst = append(dst, `"packs":[`...)
	for i, p := range packs {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendPack(dst, p); err != nil {
			return nil, fmt.Errorf("encode index: %w", err)
		}
	}
	return append(dst, `]}`...), nil
}

// EncodeUnused returns the content of an index file that lists no packs, but those
// that nothing needs any more, by when that was noticed:
//
//	{"packs":[],"unused":[{"since":"2026-11-22T10:00:00Z","packs":["<pack>",…]}]}
//
// without the white space.
func EncodeUnused(unused []Unused) ([]byte, error) {
	dst := []byte(`{"packs":[],"unused":[`)
	for i, u := range unused {
		if i > 0 {
			dst = append(dst, ',')
		}
		since, err := u.Since.UTC().MarshalText()
		if err != nil {
			return nil, fmt.Errorf("encode index: %w", err)
		}
		dst = append(dst, `{"since":"`...)
		dst = append(dst, since...)
		dst = append(dst, `","packs":`...)
		dst = append(appendIDs(dst, u.Packs), '}')
	}
	return append(dst, `]}`...), nil
}

// encodedSize returns about how long the encoded packs are.
func encodedSize(packs []Pack, supersedes []storage.ID) int {
	const perFile, perPack, perBlob, perName = 32, 96, 170, 67
	size := perFile + perName*len(supersedes)
	for _, p := range packs {
		size += perPack + perBlob*len(p.Blobs)
	}
	return size
}

func appendSupersedes(dst []byte, supersedes []storage.ID) []byte {
	if len(supersedes) == 0 {
		return dst
	}
	dst = append(dst, `"supersedes":`...)
	return append(appendIDs(dst, supersedes), ',')
}

func appendIDs(dst []byte, ids []storage.ID) []byte {
	dst = append(dst, '[')
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst, _ = id.AppendText(dst) // never fails
		dst = append(dst, '"')
	}
	return append(dst, ']')
}

func appendPack(dst []byte, p Pack) ([]byte, error) {
	if p.ID.IsZero() || len(p.Blobs) == 0 {
		return nil, fmt.Errorf("pack %s without a name or blobs", p.ID.Short())
	}
	dst = append(dst, `{"id":"`...)
	dst, _ = p.ID.AppendText(dst) // never fails
	dst = append(dst, `","blobs":[`...)
	for i, b := range p.Blobs {
		if err := check(b); err != nil {
			return nil, fmt.Errorf("pack %s: %w", p.ID.Short(), err)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendBlob(dst, b)
	}
	return append(dst, `]}`...), nil
}

func appendBlob(dst []byte, b pack.Blob) []byte {
	dst = append(dst, `{"id":"`...)
	dst, _ = b.Handle.ID.AppendText(dst) // never fails
	dst = append(dst, `","type":"`...)
	dst = append(dst, b.Handle.Kind.String()...)
	dst = append(dst, `","offset":`...)
	dst = strconv.AppendUint(dst, uint64(b.Offset), 10)
	dst = append(dst, `,"length":`...)
	dst = strconv.AppendUint(dst, uint64(b.Length), 10)
	if b.PlainLength > 0 {
		dst = append(dst, `,"uncompressed_length":`...)
		dst = strconv.AppendUint(dst, uint64(b.PlainLength), 10)
	}
	return append(dst, '}')
}

// check refuses what no pack can hold.
func check(b pack.Blob) error {
	switch {
	case b.Handle.ID.IsZero():
		return errors.New("blob without an ID")
	case b.Handle.Kind > blob.Tree:
		return fmt.Errorf("blob of %v", b.Handle.Kind)
	case b.Length < minSealed:
		return fmt.Errorf("%v: %d bytes are not a sealed blob", b.Handle, b.Length)
	case uint64(b.Offset)+uint64(b.Length) > math.MaxUint32:
		return fmt.Errorf("%v: ends behind 4 GiB", b.Handle)
	}
	return nil
}

// Decode reads the content of an index file. Fields it does not know are
// passed over. The blobs of a pack may be given in any order and even overlap: that
// is for a check of the repository to report.
func Decode(data []byte) (*File, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("decode index: %d bytes are more than %d", len(data), MaxFileSize)
	}
	s := scanner{data: data}
	f := decodeFile(&s)
	s.end()
	if s.err != nil {
		return nil, fmt.Errorf("decode index: %w", s.err)
	}
	return f, nil
}

func decodeFile(s *scanner) *File {
	f := &File{}
	var seen fields
	s.object(func(key []byte) {
		switch string(key) {
		case "packs":
			seen.once(s, 0)
			s.array(func() { f.Packs = append(f.Packs, decodePack(s)) })
		case "supersedes":
			seen.once(s, 1)
			if !s.null() { // which old writers gave
				f.Supersedes = decodeIDs(s)
			}
		case "unused":
			seen.once(s, 2)
			s.array(func() { f.Unused = append(f.Unused, decodeUnused(s)) })
		default:
			s.skip()
		}
	})
	seen.require(s, 1, "packs")
	f.Unknown = s.skips
	return f
}

func decodeIDs(s *scanner) (ids []storage.ID) {
	s.array(func() {
		var id storage.ID
		s.text(&id)
		ids = append(ids, id)
	})
	return ids
}

func decodeUnused(s *scanner) Unused {
	var u Unused
	var seen fields
	s.object(func(key []byte) {
		switch string(key) {
		case "since":
			seen.once(s, 0)
			s.text(&u.Since)
		case "packs":
			seen.once(s, 1)
			u.Packs = decodeIDs(s)
		default:
			s.skip()
		}
	})
	seen.require(s, 2, "since and packs of what is unused")
	return u
}

func decodePack(s *scanner) Pack {
	var p Pack
	var seen fields
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			seen.once(s, 0)
			s.text(&p.ID)
		case "blobs":
			seen.once(s, 1)
			s.array(func() { p.Blobs = append(p.Blobs, decodeBlob(s)) })
		default:
			s.skip()
		}
	})
	seen.require(s, 2, "id and blobs of a pack")
	if p.ID.IsZero() {
		s.fail(errors.New("pack without an ID"))
	}
	slices.SortStableFunc(p.Blobs, func(a, b pack.Blob) int { return cmp.Compare(a.Offset, b.Offset) })
	return p
}

func decodeBlob(s *scanner) pack.Blob {
	var b pack.Blob
	var seen fields
	s.object(func(key []byte) {
		switch string(key) {
		case "id":
			seen.once(s, 0)
			s.text(&b.Handle.ID)
		case "type":
			seen.once(s, 1)
			s.text(&b.Handle.Kind)
		case "offset":
			seen.once(s, 2)
			b.Offset = s.uint32()
		case "length":
			seen.once(s, 3)
			b.Length = s.uint32()
		case "uncompressed_length":
			seen.once(s, 4)
			b.PlainLength = s.uint32()
		default:
			s.skip()
		}
	})
	seen.require(s, 4, "id, type, offset and length of a blob")
	if err := check(b); err != nil {
		s.fail(err)
	}
	return b
}

// fields notes which fields of an object were given.
type fields uint8

// once notes field n and fails if it was given before.
func (f *fields) once(s *scanner, n int) {
	if *f&(1<<n) != 0 {
		s.fail(errors.New("a field is given twice"))
	}
	*f |= 1 << n
}

// require fails if one of the first n fields is missing.
func (f *fields) require(s *scanner, n int, names string) {
	if all := fields(1)<<n - 1; *f&all != all {
		s.fail(fmt.Errorf("lacks %s", names))
	}
}
