package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
)

// crowd is a repository that many processes work on at the same time, and what they said that they did.
type crowd struct {
	*testing.T
	src     *source
	command command
	repo    *repo.Repo
	names   []string     // of the streams
	stored  atomic.Int64 // messages in each of them
	feed    func()       // ends what publishes them
	end     time.Time    // until when to go on

	mu    sync.Mutex
	saved map[string][2]int64 // snapshots, and how many messages each of their streams has at least and at most
	kept  []string            // those that nobody was told to forget, the oldest first
	log   map[string]int      // how often each party ended how
}

// newCrowd makes a repository with a snapshot, and streams that messages come to until the test ends.
func newCrowd(t *testing.T) *crowd {
	t.Helper()
	testserver.Program(t, "restic", "restic")
	c := &crowd{T: t, src: startServer(t, natsd.Options{}), names: []string{"A", "B"}, saved: make(map[string][2]int64), log: make(map[string]int)}
	for _, name := range c.names {
		c.src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
	}
	c.repo, c.command.repo = newRepo(t, repo.Options{})
	c.command.env = []string{"NATS_URL=" + c.src.URL()}
	seed := chance.Seed(t)
	event := eventMaker(seed)
	for range 100 {
		c.publish(event(1024))
	}
	if !c.backup(nil, "--all").again() {
		t.FailNow()
	}
	stop, done := make(chan struct{}), make(chan struct{})
	c.feed = sync.OnceFunc(func() { close(stop); <-done })
	t.Cleanup(c.feed)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				c.publish(event(1024))
			}
		}
	}()
	c.end = time.Now().Add(soakTime(t))
	return c
}

// soakTime is for how long a suite goes on that can do so for any time.
func soakTime(t testing.TB) time.Duration {
	t.Helper()
	if text := os.Getenv("JETSAM_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		must(t, err)
		return d
	}
	if proof() {
		return 3 * time.Minute
	}
	return 0
}

// publish stores a message in each stream.
func (c *crowd) publish(payload []byte) {
	for _, name := range c.names {
		if _, err := c.src.js.Publish(c.Context(), name, payload); err != nil {
			c.Error(err)
			return
		}
	}
	c.stored.Add(1)
}

// party does one thing to the repository over and over.
type party struct {
	name string
	once func(p party) (done bool)
	may  *regexp.Regexp // what else than success it may say with exit code 1
}

func (p party) again() (done bool) { return p.once(p) }

// jetsam is a party that runs a command of jetsam.
func (c *crowd) jetsam(may *regexp.Regexp, args ...string) party {
	return party{"jetsam " + strings.Join(args, " "), func(p party) bool {
		_, done := c.run(p, c.command.prepare(c, args...))
		return done
	}, may}
}

// restic is a party that runs a command of restic.
func (c *crowd) restic(args ...string) party {
	return party{"restic " + strings.Join(args, " "), func(p party) bool {
		cmd := exec.Command("restic", append([]string{"--no-cache", "-r", c.command.repo}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
		_, done := c.run(p, cmd)
		return done
	}, regexp.MustCompile(`already locked.* by PID \d+ on \S+ by`)}
}

// backup is a party that backs up, and notes what it is told of its snapshot.
func (c *crowd) backup(may *regexp.Regexp, args ...string) party {
	args = append([]string{"backup", "--json", "--quiet"}, args...)
	return party{"jetsam " + strings.Join(args, " "), func(p party) bool {
		least := c.stored.Load()
		out, done := c.run(p, c.command.prepare(c, args...))
		if !done {
			return false
		}
		var summary struct {
			ID string `json:"snapshot_id"`
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil || summary.ID == "" {
			c.Errorf("%s tells of no snapshot: %v\n%s", p.name, err, out)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.saved[summary.ID] = [2]int64{least, c.stored.Load() + 1}
		c.kept = append(c.kept, summary.ID)
		return true
	}, may}
}

// forget is a party that forgets the oldest snapshot, unless it is the only one.
func (c *crowd) forget(may *regexp.Regexp, args ...string) party {
	return party{"jetsam forget OLDEST " + strings.Join(args, " "), func(p party) bool {
		c.mu.Lock()
		if len(c.kept) < 2 {
			c.mu.Unlock()
			return false
		}
		id := c.kept[0]
		c.kept = c.kept[1:]
		c.mu.Unlock()
		_, done := c.run(p, c.command.prepare(c, append([]string{"forget", id}, args...)...))
		return done
	}, may}
}

var holder = regexp.MustCompile(`locked( exclusively)? by \S+ on \S+ \(process \d+\)`)

// run runs a command. It succeeds, or says who has locked the repository, or what the party may say.
func (c *crowd) run(p party, cmd *exec.Cmd) (out string, done bool) {
	text, err := cmd.CombinedOutput()
	code := cmd.ProcessState.ExitCode()
	c.mu.Lock()
	c.log[fmt.Sprintf("%s: exit code %d", p.name, code)]++
	c.mu.Unlock()
	switch {
	case code == 0:
		return string(text), true
	case code == 11 && holder.Match(text):
	case code == 1 && p.may != nil && p.may.Match(text):
	default:
		c.Errorf("%s: %v\n%s", p.name, err, text)
	}
	return string(text), false
}

// mingle lets all parties go on at the same time until the end, and until each has succeeded once.
func (c *crowd) mingle(parties ...party) {
	pause := 300 * time.Millisecond // at most, so that there are moments for those who need the repository alone
	if time.Now().Before(c.end) {
		pause = 3 * time.Second
	}
	var group sync.WaitGroup
	for _, p := range parties {
		group.Go(func() {
			for done := false; (!done || time.Now().Before(c.end)) && !c.Failed(); {
				done = p.again() || done
				time.Sleep(rand.N(pause))
			}
		})
	}
	group.Wait()
	for _, how := range slices.Sorted(maps.Keys(c.log)) {
		c.Logf("%5d %s", c.log[how], how)
	}
}

// wantAll wants every snapshot that was saved and not forgotten, each with what its streams had at some time while it was made, and no lock.
func (c *crowd) wantAll() {
	c.Helper()
	c.feed()
	if out := c.command.run(c, 0, "list", "locks", "--no-lock"); out != "" {
		c.Errorf("locks are left: %s", out)
	}
	now := make(map[string]image)
	for _, name := range c.names {
		now[name] = lookAt(c, c.src, name)
	}
	listed := make(map[string]bool)
	for _, sn := range snapshotsOf(c, c.repo) {
		id := sn.ID().String()
		bounds, ours := c.saved[id]
		if !ours {
			continue // restic's
		}
		listed[id] = true
		images, err := imagesOf(c.Context(), c.repo, sn.ID())
		must(c, err)
		for name, got := range images {
			n := len(got.Messages)
			if int64(n) < bounds[0] || int64(n) > bounds[1] {
				c.Errorf("snapshot %s: %d messages in stream %s, want %v", id, n, name, bounds)
			} else if !slices.Equal(got.Messages, now[name].Messages[:n]) || !cmp.Equal(got.Config, now[name].Config) {
				c.Errorf("snapshot %s: stream %s is not what it was", id, name)
			}
		}
	}
	for _, id := range c.kept {
		if !listed[id] {
			c.Errorf("snapshot %s is lost", id)
		}
	}
	c.Logf("%d snapshots of %d are left", len(listed), len(c.saved))
}

// TestManyAtOnce: backups, checks, forgets and prunes of jetsam and of restic work on one repository at the same time. Each succeeds or says who has
// locked it, and nothing is lost.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	patient := []string{"--retry-lock", "5m"}
	tidy := []string{"--grace", "0", "--max-unused", "0"}
	c.mingle(
		c.backup(nil, append(patient, "A", "--mode", "full")...),
		c.backup(nil, append(patient, "--all")...),
		c.backup(nil, "B"),
		c.jetsam(nil, append([]string{"check"}, patient...)...),
		c.forget(nil, slices.Concat(patient, tidy, []string{"--prune"})...),
		c.jetsam(nil, append([]string{"prune"}, tidy...)...),
		c.jetsam(nil, "unlock"),
		c.restic("backup", "testdata"),
		c.restic("check"),
		c.restic("prune", "--max-unused", "0"),
		c.restic("unlock"),
	)
	c.wantAll()
	c.command.run(t, 0, "check", "--read-data")
	restic(t, c.command.repo, "check", "--read-data")
}

// unlocked is what a command says that finds out that its lock was removed, or what others did meanwhile.
var unlocked = regexp.MustCompile(`lock on the repository was lost|removed meanwhile|removed while the repository was being locked|appeared meanwhile|is not listed any more|does not exist`)

// TestManyWithoutLocks: backups, forgets and prunes work at the same time, and somebody removes their locks by force all the time. Each succeeds, says who
// has locked the repository, or that its lock was lost. For the grace of a prune everything is there that a snapshot needs, and the next one lists it.
func TestManyWithoutLocks(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	tidy := []string{"prune", "--grace", "2m", "--max-unused", "0"} // long after any backup has ended
	theirs := c.restic("unlock", "--remove-all")
	theirs.may = regexp.MustCompile(`/locks/[0-9a-f]{64}: no such file or directory`) // restic 0.14 minds that somebody else removed a lock first
	c.mingle(
		c.backup(unlocked, "A", "--mode", "full"),
		c.backup(unlocked, "--all"),
		c.backup(unlocked, "B"),
		c.forget(unlocked),
		c.jetsam(unlocked, tidy...),
		c.jetsam(unlocked, tidy...),
		c.jetsam(nil, "unlock", "--remove-all"),
		theirs,
	)
	c.command.run(t, 0, tidy...)
	c.wantAll()
	c.command.run(t, 0, "check", "--read-data")
	restic(t, c.command.repo, "check", "--read-data")
}
