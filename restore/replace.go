package restore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
)

// copyName is the entry of a stream's metadata that says of which stream it is the copy that a restore made to replace that.
const copyName = "jetsam-copy-of"

// replacement puts a restored stream in the place of the one that the server has. Up to the deletion of that, everything can be undone, and is:
//
//	a copy of what will be restored is made under another name, and read back
//	the stream is backed up
//	its subjects and sources are taken away, so that nothing comes into it any more, and what came meanwhile is backed up too
//	it is deleted, and restored under its name, and read back
//	the copy is deleted
type replacement struct {
	p    *Plan
	s    *StreamPlan
	copy *StreamPlan
	res  *StreamResult

	isClosed bool                  // or may be
	last     *jetstream.StreamInfo // as it was when the snapshot of all was there
	saved    string                // the snapshot of what was there
}

// tellReplaced says what is lost of the server's stream, but for the snapshot that is taken of it.
func (p *Plan) tellReplaced(ctx context.Context, s *StreamPlan) error {
	if len(s.Name) >= maxName && s.live.Storage == "file" {
		s.conflict("restore it under another name", "its name has %d letters, and nats-server 2.15 leaves the files of a deleted stream of such a name, which get into the new one", len(s.Name))
		return nil
	}
	found, err := p.conn.Consumers(ctx, s.Name)
	if err != nil {
		return err
	}
	is := s.live.StreamState
	s.warning("the stream of that name on the server, %s messages up to sequence %d, is backed up and then replaced", digits.Grouped(is.Messages), is.LastSeq)
	if gone := s.strangers(found); len(gone) > 0 {
		s.warning("consumers that are not restored will be gone: %s", strings.Join(gone, ", "))
	}
	if is.LastSeq > s.state.LastSeq {
		s.warning("what is published next gets sequence %d, and sequences up to %d were given out before: streams that copy from this one pass over messages whose sequences they have seen",
			s.state.LastSeq+1, is.LastSeq)
	}
	if err := p.checkClosable(ctx, s); err != nil {
		return err
	}
	if len(s.live.Subjects) == 0 && s.live.Mirror != nil {
		s.warning("it is a mirror, which cannot be kept from copying on: what comes into it in the moment before it is replaced is only in the stream that it mirrors")
	}
	return nil
}

// checkClosable finds out whether the server's stream can be kept from taking messages, and whether another run does that.
func (p *Plan) checkClosable(ctx context.Context, s *StreamPlan) error {
	if s.takesNothing() {
		return nil
	}
	var refused *jetstream.PermissionError
	err := p.conn.MayUpdate(ctx, s.Name)
	if errors.As(err, &refused) {
		s.conflict("let this user update it", "nothing may come into it while it is replaced, and this user may not take its subjects away: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	p.checkReplaced(ctx, s)
	return nil
}

// checkReplaced finds out whether another run is replacing the server's stream.
func (p *Plan) checkReplaced(ctx context.Context, s *StreamPlan) {
	if run := closedBy(s.live.StreamSettings); run != "" && p.atWork(ctx, run) {
		s.conflict("wait until that has ended, and look at what it says", "another run of jetsam is replacing it right now")
	}
}

// atWork says whether that run answers that it is. Who may not ask, or asks for what is no run, is not answered.
func (p *Plan) atWork(ctx context.Context, run string) bool {
	present, err := p.conn.Present(ctx, run)
	return err == nil && present
}

// takesNothing says whether a stream cannot be kept from taking messages: a sealed one takes none, and a mirror only those of another.
func (s *StreamPlan) takesNothing() bool { return s.live.Sealed || s.live.Mirror != nil }

// replace runs a replacement. What it says of the stream is in res.
func (p *Plan) replace(ctx context.Context, s *StreamPlan, res *StreamResult) error {
	r := &replacement{p: p, s: s, res: res}
	if err := r.prepare(ctx); err != nil {
		return r.undo(ctx, err)
	}
	if err := r.swap(ctx); err != nil {
		return err
	}
	if left := r.removeCopy(ctx); left != "" {
		res.Notes = append(res.Notes, left)
	}
	return nil
}

// prepare does all that can be undone.
func (r *replacement) prepare(ctx context.Context) error {
	if err := r.makeCopy(ctx); err != nil {
		return err
	}
	before, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := r.save(ctx); err != nil {
		return err
	}
	if err := r.close(ctx); err != nil {
		return err
	}
	if err := r.saveRest(ctx, before); err != nil {
		return err
	}
	if err := r.checkFree(ctx); err != nil {
		return err
	}
	now, err := r.look(ctx)
	if err == nil && r.isClosed && !sameMessages(r.last, now) {
		err = errNotQuiet
	}
	return err
}

// errNotQuiet says that what is in the snapshot is not all.
var errNotQuiet = errors.New("messages came into it though it has no subjects any more: somebody else changes it")

// look asks for the stream, which must be the one of the plan, and closed by this run once it is.
func (r *replacement) look(ctx context.Context) (*jetstream.StreamInfo, error) {
	info, err := r.p.conn.Stream(ctx, r.s.Name)
	switch {
	case err != nil:
		return nil, err
	case !r.s.live.IsSame(info):
		return nil, errors.New("somebody made it anew since the plan was made")
	case r.isClosed && closedBy(info.StreamSettings) != r.p.run:
		return nil, errors.New("somebody else changed its subjects, perhaps another run of jetsam that replaces it")
	}
	return info, nil
}

// makeCopy restores the messages under another name, and reads them back. Nothing comes into the copy, and nothing goes out of it.
func (r *replacement) makeCopy(ctx context.Context) error {
	s := *r.s
	s.Name, s.live, s.Leftover, s.Action = r.copyName(), nil, nil, Create
	s.head = s.head.WithoutConsumers()
	var err error
	if s.wanted, err = r.copyConfig(s.Name); err != nil {
		return err
	}
	if _, s.config, err = jetstream.ParseSettings(s.wanted); err != nil {
		return err
	}
	r.copy = &s
	t := &transfer{outflow: outflow{plan: r.p, s: &s}}
	if err := t.run(ctx); err != nil {
		return err
	}
	_, err = r.p.verify(ctx, &s)
	return err
}

// maxName is how long the name of a stream may be (nats-server 2.15, JSMaxNameLen).
const maxName = 255

func (r *replacement) copyName() string {
	name := fmt.Sprintf("jetsam-%.8s-%s", r.p.run, r.s.Name)
	if len(name) > maxName {
		name = fmt.Sprintf("jetsam-%.8s-%x", r.p.run, sha256.Sum256([]byte(r.s.Name)))
	}
	return name
}

// copyConfig is that of the stream as far as it says how messages are kept, and nothing that would let one go.
func (r *replacement) copyConfig(name string) (json.RawMessage, error) {
	fields, err := jetstream.Fields(r.s.wanted, "storage", "num_replicas", "compression", "placement", "max_bytes")
	if err != nil {
		return nil, err
	}
	changes := map[string]any{
		"name": name, "subjects": []string{name}, "retention": "limits", "discard": "old", "max_msgs": -1, "max_consumers": -1, "max_msgs_per_subject": -1, "max_msg_size": -1,
		"description": "made by jetsam to replace stream " + r.s.Name + "; removed when that is done",
		"metadata":    map[string]string{copyName: r.s.Name},
	}
	for field, raw := range fields {
		changes[field] = raw
	}
	return jetstream.WithChanges(json.RawMessage("{}"), changes)
}

// save backs the stream up.
func (r *replacement) save(ctx context.Context) error {
	id, err := r.p.Options.Save(ctx, r.s.Name)
	if err != nil {
		return fmt.Errorf("it cannot be backed up before it is replaced: %w", err)
	}
	r.saved, r.res.Saved = id, id
	return nil
}

// close takes the stream's subjects and sources away. A sealed stream takes nothing in, and a mirror has none.
func (r *replacement) close(ctx context.Context) error {
	if r.s.takesNothing() {
		return nil
	}
	now, err := r.look(ctx)
	if err != nil {
		return err
	}
	was, _, err := opened(now.Config)
	if err != nil {
		return err
	}
	config, err := closed(was, r.closedSubject())
	if err != nil {
		return err
	}
	_, err = r.p.conn.UpdateStream(ctx, config)
	r.isClosed = !wasRefused(err)
	if err != nil {
		return fmt.Errorf("its subjects cannot be taken away: %w", err)
	}
	return nil
}

// closedSubject is what the stream listens to while it is closed: nobody publishes to it, and no other stream has it.
func (r *replacement) closedSubject() string { return closedPrefix + r.p.run + "." + r.s.Name }

// saveRest backs up what came into the stream since it was as before, which no more does.
func (r *replacement) saveRest(ctx context.Context, before *jetstream.StreamInfo) error {
	var err error
	if r.last, err = r.quiet(ctx); err != nil || sameMessages(before, r.last) {
		return err
	}
	return r.save(ctx)
}

// quietLooks is how often a stream may still change before it counts as changed by somebody else. It has many messages to store where storage is slow.
const quietLooks = 120

// quiet is the closed stream when it has dealt with all that was published to it: a message that is acknowledged later would be in no snapshot.
func (r *replacement) quiet(ctx context.Context) (*jetstream.StreamInfo, error) {
	now, err := r.look(ctx)
	if err != nil || !r.isClosed {
		return now, err
	}
	_ = r.p.conn.Drain(ctx, r.s.Name, r.closedSubject()) // a user who may not publish, or a stream that answers nobody, is only looked at
	for range quietLooks {
		if err := pause(ctx, reuseTime); err != nil {
			return nil, err
		}
		was := now
		if now, err = r.look(ctx); err != nil || sameMessages(was, now) {
			return now, err
		}
	}
	return nil, errNotQuiet
}

// checkFree looks whether another stream has taken the subjects while the stream had none: it could not be restored any more.
func (r *replacement) checkFree(ctx context.Context) error {
	streams, err := r.p.conn.Streams(ctx)
	if err != nil {
		return err
	}
	for _, other := range streams {
		if other.Name == r.s.Name {
			continue
		}
		if own, theirs, ok := firstOverlap(subjectsOf(r.s.Name, r.s.config), subjectsOf(other.Name, other.StreamSettings)); ok {
			return fmt.Errorf("stream %s has taken its subjects meanwhile: %q overlaps %q", other.Name, theirs, own)
		}
	}
	return nil
}

// sameMessages says whether nothing came into a stream from one time to another.
func sameMessages(a, b *jetstream.StreamInfo) bool {
	return a.LastSeq == b.LastSeq && a.IsSame(b)
}

// undo removes the copy and lets messages come into the stream again.
func (r *replacement) undo(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	remains := []string{r.reopen(ctx)}
	if left := r.removeCopy(ctx); left != "" {
		remains = append(remains, left)
	}
	if r.saved != "" {
		remains = append(remains, "snapshot "+r.saved+" was taken of it")
	}
	var conflict *ConflictError
	if errors.As(cause, &conflict) && r.saved == "" && len(remains) == 1 {
		return cause
	}
	return &IncompleteError{Stream: r.s.Name, Cause: cause, Remains: strings.Join(remains, "; ")}
}

// reopen gives the stream its subjects again, also where an earlier run that was interrupted took them, and says what is on the server.
func (r *replacement) reopen(ctx context.Context) (remains string) {
	for {
		info, err := r.p.conn.Stream(ctx, r.s.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return "there is no stream of that name any more, and this restore did not delete it"
		case err != nil:
		case !r.s.live.IsSame(info):
			return "another stream that somebody made under that name is on the server as it was"
		default:
			run := closedBy(info.StreamSettings)
			if run != "" && run != r.p.run && r.p.atWork(ctx, run) {
				return "another run of jetsam is replacing the stream of that name, and keeps messages out of it"
			}
			if run == "" && !r.isClosed {
				return "the stream of that name is on the server as it was"
			}
			if err = r.giveBack(ctx, info); err == nil {
				return "the stream of that name is on the server as it was"
			}
		}
		if !mayComeBack(err) || pause(ctx, time.Second) != nil {
			return r.notReopened(err)
		}
	}
}

func (r *replacement) giveBack(ctx context.Context, info *jetstream.StreamInfo) error {
	config, _, err := opened(info.Config)
	if err != nil {
		return err
	}
	_, err = r.p.conn.UpdateStream(ctx, config)
	return err
}

func (r *replacement) notReopened(err error) string {
	if !r.isClosed {
		return fmt.Sprintf("the stream of that name was not touched (it cannot be looked at: %v)", err)
	}
	return fmt.Sprintf("the stream of that name is on the server with all its messages, but nothing can be published to it, and it could not be given its subjects again (%v): "+
		"its metadata %s says which it had; the same restore again gives them back, or `nats stream edit %s`", err, closedName, r.s.Name)
}

// removeCopy removes the copy, and says what is left of it.
func (r *replacement) removeCopy(ctx context.Context) (left string) {
	if r.copy == nil {
		return ""
	}
	t := &transfer{outflow: outflow{plan: r.p, s: r.copy}}
	if err := t.deleteStream(ctx); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Sprintf("stream %s, a copy of what was to be restored, could not be removed (%v): delete it", r.copy.Name, err)
	}
	return ""
}

// swap deletes the stream and restores it.
func (r *replacement) swap(ctx context.Context) error {
	if ctx.Err() != nil {
		return r.undo(ctx, context.Cause(ctx))
	}
	t := &transfer{outflow: outflow{plan: r.p, s: r.s}}
	if err := t.deleteStream(ctx); err != nil {
		return r.notDeleted(ctx, err)
	}
	_ = pause(ctx, reuseTime)
	err := t.run(ctx)
	t.into(r.res)
	if err == nil {
		err = r.p.verifyInto(ctx, r.s, r.res)
	}
	if err != nil {
		return &IncompleteError{Stream: r.s.Name, Cause: err, Remains: fmt.Sprintf(
			"the stream that was there is gone from the server: it is in snapshot %s; what was to be restored is there as stream %s, read back and whole", r.saved, r.copy.Name)}
	}
	return nil
}

// notDeleted is what a failed deletion means.
func (r *replacement) notDeleted(ctx context.Context, err error) error {
	if wasRefused(err) {
		return r.undo(ctx, err)
	}
	return &IncompleteError{Stream: r.s.Name, Cause: err, Remains: fmt.Sprintf(
		"whether it was deleted is not known; it is in snapshot %s; what was to be restored is there as stream %s, read back and whole; "+
			"look which streams there are: the same restore again goes on, and if stream %s is there and takes nothing in, gives it its subjects again", r.saved, r.copy.Name, r.s.Name)}
}

// wasRefused says whether a server certainly did nothing of what it was asked.
func wasRefused(err error) bool {
	var answer *jetstream.APIError
	var refused *jetstream.PermissionError
	return errors.As(err, &answer) || errors.As(err, &refused)
}
