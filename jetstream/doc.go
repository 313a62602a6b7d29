// Package jetstream moves whole streams out of and into NATS servers.
//
//	 stream on a server                                             stream on a server
//	        |                                                               ^
//	        | Snapshot: an io.Reader                        Restore: an io.Writer
//	        v                                                               |
//	S2 bytes of an archive  ------------------------------------>  S2 bytes of an archive
//
// [Connect] dials a server the way the nats command line does, its saved contexts included. A [Conn] then lists streams
// and consumers, takes snapshots and restores them. What the archive's bytes mean is package archive's business, but for
// their S2 framing, at whose seams a restore that has to wait puts padding.
//
// [Conn.Message] gives one message and [Conn.Fetch] those of a range of sequences, byte for byte as a snapshot would: for who has the
// rest of a stream already.
//
// Configurations and states travel as the raw JSON that the server sent: fields that this package does not know survive.
// The typed fields of [StreamInfo] and [ConsumerInfo] are for reading.
//
// # Errors
//
// A server that cannot be reached or does not answer is [ErrUnreachable]; what it refuses is a [PermissionError], and
// noticed at once: servers report a missing permission outside of any answer, and who does not listen there waits for the
// timeout. An error that the JetStream API answers is an [APIError], which errors.Is compares to the sentinels of this
// package. No error holds the credentials of a URL.
//
// # Lost connections
//
// A Conn reconnects by itself, for as long as it takes, but nothing that was under way goes on as if nothing had
// happened: requests, snapshots, fetches and restores fail at once with [ErrConnectionLost], and nothing published meanwhile is
// kept back for later. What is asked next waits for the connection, within its timeout.
package jetstream
