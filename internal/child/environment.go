package child

import (
	"os"
	"slices"
	"strings"
)

// secretVariables can hold a secret of this program: a password, or a token where there is a user's name; and
// addressVariables addresses with one in them.
var (
	secretVariables  = []string{"JETSAM_PASSWORD", "JETSAM_FROM_PASSWORD", "JETSAM_REST_USERNAME", "JETSAM_REST_PASSWORD", "NATS_PASSWORD", "NATS_USER"}
	addressVariables = []string{"JETSAM_REPOSITORY", "JETSAM_METRICS_PUSH", "NATS_URL"}
)

// Environment is the one of a program that is run: whoever may look at it there learns no secret of this one.
func Environment() []string { return withoutSecrets(os.Environ()) }

func withoutSecrets(environment []string) []string {
	return slices.DeleteFunc(slices.Clone(environment), func(variable string) bool {
		name, value, _ := strings.Cut(variable, "=")
		return slices.Contains(secretVariables, name) ||
			slices.Contains(addressVariables, name) && strings.Contains(value, "://") && strings.Contains(value, "@")
	})
}
