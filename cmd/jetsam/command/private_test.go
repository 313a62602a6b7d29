package command

import (
	"slices"
	"testing"
)

// TestCommandsLearnNoSecret passes on what a command needs, and nothing that may be a password.
func TestCommandsLearnNoSecret(t *testing.T) {
	got := withoutSecrets([]string{
		"PATH=/bin", "JETSAM_PASSWORD=secret", "NATS_PASSWORD=secret", "NATS_USER=token", "NATS_URL=nats://bob:secret@one", "JETSAM_PASSWORD_FILE=file", "HOME=/",
	})
	if want := []string{"PATH=/bin", "JETSAM_PASSWORD_FILE=file", "HOME=/"}; !slices.Equal(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
	if kept := withoutSecrets([]string{"NATS_URL=nats://one"}); len(kept) != 1 {
		t.Error("an address without a user is left out")
	}
}
