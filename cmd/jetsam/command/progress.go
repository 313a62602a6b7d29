package command

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// How often progress is shown: the bar on a terminal, and the line where there is none.
const (
	paintInterval = 100 * time.Millisecond
	lineInterval  = 10 * time.Second
)

// step is how far one thing is, such as the backup of a stream.
type step struct {
	name  string
	stage string // what is being done to it, where it is not the first thing
	done  uint64 // messages, or whatever the progress counts
	total uint64
	bytes uint64
	ended bool
}

// fraction is how much of the step is done, from 0 to 1.
func (s step) fraction() float64 {
	if s.ended || s.total == 0 {
		return 1
	}
	return min(1, float64(s.done)/float64(s.total))
}

// progress shows on stderr how far a command is: bars on a terminal, else a line now and then.
// Its methods may be called from many goroutines. The zero of *progress, nil, shows nothing.
type progress struct {
	out  *output
	noun string // what the steps count: "message"
	now  func() time.Time

	mu    sync.Mutex
	began time.Time
	steps map[string]*tracked

	stop chan struct{}
	idle sync.WaitGroup
}

// tracked is a step since it was first heard of.
type tracked struct {
	step
	since time.Time
}

// showProgress begins to show progress until finish is called.
func (p *program) showProgress(noun string) *progress {
	if p.out.quiet || p.out.noProgress {
		return nil
	}
	pr := &progress{out: p.out, noun: noun, now: p.now, began: p.now(), steps: make(map[string]*tracked), stop: make(chan struct{})}
	show, interval := pr.line, lineInterval
	if !p.out.json && isTerminal(p.out.stderr) {
		show, interval = pr.paint, paintInterval
	}
	pr.idle.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show()
			case <-pr.stop:
				p.out.setBar(nil)
				return
			}
		}
	})
	return pr
}

// report says how far a step is.
func (pr *progress) report(s step) {
	if pr == nil {
		return
	}
	pr.mu.Lock()
	defer pr.mu.Unlock()
	t, ok := pr.steps[s.name]
	if !ok || t.stage != s.stage {
		t = &tracked{since: pr.now()}
		pr.steps[s.name] = t
	}
	t.step = s
}

// finish takes the bars away. Nothing may be reported afterwards.
func (pr *progress) finish() {
	if pr == nil {
		return
	}
	close(pr.stop)
	pr.idle.Wait()
}

// status is how far everything is, in JSON and as the source of the texts.
type status struct {
	MessageType string       `json:"message_type"` // "status"
	Seconds     float64      `json:"seconds_elapsed"`
	Left        float64      `json:"seconds_remaining,omitempty"`
	Fraction    float64      `json:"fraction_done"`
	Done        uint64       `json:"done"` // of what the command counts: messages, packs
	Total       uint64       `json:"total"`
	Bytes       uint64       `json:"bytes_done,omitempty"`
	Ended       int          `json:"steps_done"`
	Running     []stepStatus `json:"running"`
}

type stepStatus struct {
	Name     string  `json:"name"`
	Stage    string  `json:"stage,omitempty"`
	Fraction float64 `json:"fraction_done"`
	Done     uint64  `json:"done"`
	Total    uint64  `json:"total"`
	Bytes    uint64  `json:"bytes_done,omitempty"`
	Rate     float64 `json:"bytes_per_second,omitempty"`
	Left     float64 `json:"seconds_remaining,omitempty"`

	since time.Time
}

func (pr *progress) status() status {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	now := pr.now()
	s := status{MessageType: "status", Seconds: now.Sub(pr.began).Seconds(), Running: []stepStatus{}}
	for _, t := range pr.steps {
		s.Done += t.done
		s.Total += max(t.total, t.done)
		s.Bytes += t.bytes
		if t.ended {
			s.Ended++
			continue
		}
		s.Running = append(s.Running, t.status(now))
	}
	slices.SortFunc(s.Running, func(a, b stepStatus) int {
		return cmp.Or(a.since.Compare(b.since), strings.Compare(a.Name, b.Name))
	})
	if s.Total > 0 {
		s.Fraction = float64(s.Done) / float64(s.Total)
	}
	s.Left = left(s.Fraction, s.Seconds)
	return s
}

func (t *tracked) status(now time.Time) stepStatus {
	s := stepStatus{Name: t.name, Stage: t.stage, Fraction: t.fraction(), Done: t.done, Total: t.total, Bytes: t.bytes, since: t.since}
	if seconds := now.Sub(t.since).Seconds(); seconds > 0 {
		s.Rate = float64(t.bytes) / seconds
		s.Left = left(s.Fraction, seconds)
	}
	return s
}

// left estimates the seconds that the rest takes; 0 where nothing can be said.
func left(fraction, seconds float64) float64 {
	if fraction <= 0 || fraction >= 1 {
		return 0
	}
	return seconds * (1 - fraction) / fraction
}

// line writes one line of progress.
func (pr *progress) line() {
	s := pr.status()
	if s.Total == 0 {
		return
	}
	if pr.out.json {
		if line, err := jsonLine(s); err == nil {
			pr.out.stderrLine(strings.TrimSuffix(string(line), "\n"))
		}
		return
	}
	pr.out.stderrLine(pr.sentence(s))
}

// shownNames is how many running steps a line of progress names.
const shownNames = 3

func (pr *progress) sentence(s status) string {
	var running []string
	for _, r := range s.Running[:min(shownNames, len(s.Running))] {
		running = append(running, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Stage, r.Name, percent(r.Fraction))))
	}
	if more := len(s.Running) - len(running); more > 0 {
		running = append(running, formatCount(more)+" more")
	}
	text := fmt.Sprintf("%s: %s of %s %ss", percent(s.Fraction), formatCount(s.Done), formatCount(s.Total), pr.noun)
	if s.Bytes > 0 && s.Seconds > 0 {
		text += fmt.Sprintf(", %s, %s/s", formatSize(s.Bytes), formatSize(int64(float64(s.Bytes)/s.Seconds)))
	}
	if s.Left > 0 {
		text += ", " + clock(s.Left) + " left"
	}
	if len(running) > 0 {
		text += " (" + strings.Join(running, ", ") + ")"
	}
	return text
}

func percent(fraction float64) string { return fmt.Sprintf("%d%%", int(fraction*100)) }

// clock writes seconds as 0:07, 12:30 or 1:02:03.
func clock(seconds float64) string {
	n := int(seconds + 0.5)
	if n >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
	}
	return fmt.Sprintf("%d:%02d", n/60, n%60)
}

// took writes how many seconds something took.
func took(seconds float64) string {
	switch {
	case seconds < 10:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 60:
		return fmt.Sprintf("%.0f s", seconds)
	}
	return clock(seconds)
}
