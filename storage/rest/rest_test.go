package rest_test

import (
	"fmt"
	"testing"

	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/rest"
	"jetsam/storage/rest/resttest"
	"jetsam/storage/storagetest"
)

// open opens a repository's place at a URL.
func open(t testing.TB, address string, o rest.Options) *rest.Backend {
	t.Helper()
	base, user, password, err := rest.Address(address)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		o.Username, o.Password = user, password
	}
	return rest.Open(base, "rest:"+base.String(), o)
}

// TestBackend runs what every backend must do on a real rest-server.
func TestBackend(t *testing.T) {
	server := resttest.Start(t)
	n := 0
	storagetest.RunHashed(t, func(t *testing.T) storage.Backend {
		n++
		be := open(t, fmt.Sprintf("%s%d/", server.URL(), n), rest.Options{Password: secret.New("")})
		if err := be.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		return be
	})
}
