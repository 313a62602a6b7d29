package secret_test

import (
	"testing"

	"jetsam/secret"
)

func TestHideUserInfo(t *testing.T) {
	for in, want := range map[string]string{
		"dial nats://bob:pass@one:4222: refused":         "dial nats://xxxxx@one:4222: refused",
		"nats://token@one,nats://a:b@two/x, wss://c@[3]": "nats://xxxxx@one,nats://xxxxx@two/x, wss://xxxxx@[3]",
		`{"message":"open \"https://u:p@h\""}`:           `{"message":"open \"https://xxxxx@h\""}`,
		"nats://one:4222 said a@b, http://h/p@q":         "nats://one:4222 said a@b, http://h/p@q",
		"nats://bob:p@ss@one:4222, nats://a:p@s@two":     "nats://xxxxx@one:4222, nats://xxxxx@two",
		"": "",
	} {
		if got := secret.HideUserInfo(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}
