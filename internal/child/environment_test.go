package child

import (
	"slices"
	"testing"
)

// TestNoSecretIsPassedOn: a program gets what it needs, and nothing that may be a password.
func TestNoSecretIsPassedOn(t *testing.T) {
	kept := []string{
		"PATH=/bin", "JETSAM_PASSWORD_FILE=file", "HOME=/", "NATS_URL=nats://one", "JETSAM_REPOSITORY=sftp:backup@host:dir", "AWS_SECRET_ACCESS_KEY=of another",
	}
	got := withoutSecrets(slices.Concat(kept, []string{
		"JETSAM_PASSWORD=secret", "JETSAM_FROM_PASSWORD=secret", "JETSAM_REST_USERNAME=token", "JETSAM_REST_PASSWORD=secret", "NATS_PASSWORD=secret", "NATS_USER=token",
		"NATS_URL=nats://bob:secret@one", "JETSAM_REPOSITORY=rest:https://bob:secret@one/", "JETSAM_METRICS_PUSH=https://bob:secret@one",
	}))
	if !slices.Equal(got, kept) {
		t.Errorf("the environment is %q, want %q", got, kept)
	}
}
