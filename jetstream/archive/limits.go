package archive

// The default limits of what a reader accepts. They bound memory against a
// hostile source, and are far above what servers produce.
const (
	// MaxName is the longest name of an entry, in bytes. A subject has to fit
	// into a protocol line, which servers limit to 4 KiB by default.
	MaxName = 64 << 10
	// MaxMessage is the largest sum of a message's headers and payload, in bytes:
	// the largest max_payload that servers can be set to, and room for headers
	// that a server added by itself.
	MaxMessage = 64<<20 + 1<<20
	// MaxHeadEntry is the largest JSON of state.json or of one consumer, in
	// bytes. A consumer takes about 66 bytes for each message that awaits its
	// acknowledgement, so this is some 1.5 million of them.
	MaxHeadEntry = 96 << 20
	// MaxHead is the largest sum of all names and JSON in the head, in bytes.
	MaxHead = 256 << 20
	// MaxConsumers is the largest number of consumers in the head.
	MaxConsumers = 1 << 20
	// MaxFilters is the largest number of subjects that a consumer may filter by.
	MaxFilters = 1 << 20
	// MaxDepth is the deepest nesting of the head's JSON. What servers write is
	// four levels deep.
	MaxDepth = 64
)

// Limits says what a reader accepts; a zero field stands for the constant of
// the same name. Sizes are bytes.
type Limits struct {
	MaxName      int // of an entry
	MaxMessage   int // headers and payload of a message together
	MaxHeadEntry int // JSON of one entry of the head
	MaxHead      int // names and JSON of all entries of the head
	MaxConsumers int // entries of the head after state.json
}

// withDefaults gives the limits with every zero field filled in.
func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxName, MaxName)
	orDefault(&l.MaxMessage, MaxMessage)
	orDefault(&l.MaxHeadEntry, MaxHeadEntry)
	orDefault(&l.MaxHead, MaxHead)
	orDefault(&l.MaxConsumers, MaxConsumers)
	return l
}

func orDefault(field *int, value int) {
	if *field <= 0 {
		*field = value
	}
}
