package command

import (
	"slices"
	"testing"

	"jetsam/restore"
	"jetsam/snapshot"
)

// TestNextSteps: what heals by itself, or is only away, is never restored; what is to be restored is named by commands that a shell takes as they are.
func TestNextSteps(t *testing.T) {
	consumers := func(h restore.Health) []restore.ConsumerCondition {
		return []restore.ConsumerCondition{{Name: "a", Health: restore.Healthy}, {Name: "b", Health: h}}
	}
	sn := &snapshot.Snapshot{}
	id := sn.ID().Short()
	for _, c := range []struct {
		name   string
		stream restore.Condition
		chosen bool
		want   []string // the commands; empty where there is only something to know
	}{
		{"healthy", restore.Condition{Name: "S", Health: restore.Healthy, Consumers: consumers(restore.Healthy)}, false, nil},
		{"catching up", restore.Condition{Name: "S", Health: restore.CatchingUp}, false, []string{""}},
		{"catching up, after a restore that did not end", restore.Condition{Name: "S", Health: restore.CatchingUp, Unfinished: true}, false, []string{""}},
		{"away", restore.Condition{Name: "S", Health: restore.NoQuorum}, true, []string{""}},
		{"a consumer is away", restore.Condition{Name: "S", Health: restore.Healthy, Consumers: consumers(restore.NoQuorum)}, true, []string{""}},
		{"lost", restore.Condition{Name: "S", Health: restore.Lost}, false, []string{"jetsam restore " + id + " --missing"}},
		{"lost, of chosen ones", restore.Condition{Name: "$MQTT_it's", Health: restore.Lost}, true, []string{"jetsam restore " + id + ` --missing '$MQTT_it'\''s'`}},
		{"like a flag", restore.Condition{Name: "-S", Health: restore.Lost}, true, []string{"jetsam restore " + id + " --missing -- -S"}},
		{"unfinished", restore.Condition{Name: "S", Health: restore.Diverged, Unfinished: true}, false, []string{"jetsam restore " + id + " S"}},
		{"behind", restore.Condition{Name: "S", Health: restore.Behind}, false, []string{"jetsam restore " + id + " --replace --dry-run S"}},
		{"diverged", restore.Condition{Name: "S", Health: restore.Diverged}, false, []string{"jetsam restore " + id + " --replace --dry-run S"}},
		{"unknown", restore.Condition{Name: "S", Health: restore.Unknown}, false, []string{""}},
		{"a consumer is lost", restore.Condition{Name: "S", Health: restore.CatchingUp, Consumers: consumers(restore.Lost)}, false, []string{"", "jetsam restore " + id + " --consumers-only --skip-existing S"}},
	} {
		var got []string
		for _, step := range nextSteps(&restore.Survey{Snapshot: sn, Streams: []restore.Condition{c.stream}}, c.chosen) {
			got = append(got, step.Command)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
