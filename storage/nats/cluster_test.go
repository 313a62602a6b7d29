package nats

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// cluster starts three servers that are one, and returns them and their addresses.
func cluster(t *testing.T) (servers []*natsd.Server, urls string) {
	t.Helper()
	var routes, all []string
	ports := testserver.FreePorts(t, 3)
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		s := start(t, natsd.Options{
			Name:   fmt.Sprintf("n%d", i),
			Config: fmt.Sprintf("cluster { name: C, listen: \"127.0.0.1:%d\", routes: [%s] }", port, strings.Join(routes, ", ")),
		})
		servers, all = append(servers, s), append(all, s.URL())
	}
	return servers, strings.Join(all, ",")
}

// leader is the server that leads the stream.
func leader(t *testing.T, b *Backend) string {
	t.Helper()
	var info struct {
		Cluster struct {
			Leader string `json:"leader"`
		} `json:"cluster"`
	}
	if err := b.call(t.Context(), "STREAM.INFO", struct{}{}, &info); err != nil {
		t.Fatal(err)
	}
	return info.Cluster.Leader
}

// TestCluster: in a stream of three replicas a file is saved and read back while the server that leads the stream goes away; what was acknowledged is
// there. The cluster is known to be one's own from each of its servers.
func TestCluster(t *testing.T) {
	servers, urls := cluster(t)
	b := create(t, urls, Options{})
	defer b.Close()
	if info, err := b.info(t.Context(), "", 0); err != nil || info.Config.Replicas != 3 {
		t.Fatalf("%d replicas, %v", info.Config.Replicas, err)
	}
	for cluster, want := range map[string]string{"C": b.place.Stream, "D": "", "": ""} {
		if got, allowed := b.Shares("another of its servers", cluster); got != want || allowed {
			t.Errorf("cluster %q: %q, %v", cluster, got, allowed)
		}
	}
	if os.Getenv("JETSAM_PROOF") != "" {
		storagetest.Run(t, func(t *testing.T) storage.Backend { return create(t, urls, Options{}) })
	}
	first, firstData := storagetest.RandomFile(storage.Pack, 3<<20)
	if err := b.Save(t.Context(), first, firstData); err != nil {
		t.Fatal(err)
	}
	f, data := storagetest.RandomFile(storage.Pack, 16<<20)
	before := messages(t, b)
	done := make(chan error, 1)
	go func() { done <- b.Save(t.Context(), f, data) }()
	for messages(t, b) < before+5 { // it has begun
		time.Sleep(time.Millisecond)
	}
	for i, name := range []string{"n0", "n1", "n2"} {
		if name == leader(t, b) {
			servers[i].Shutdown()
			break
		}
	}
	if err := <-done; err != nil {
		t.Fatalf("save: %v", err)
	}
	for f, want := range map[storage.File][]byte{first: firstData, f: data} {
		if got, err := b.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, want) {
			t.Errorf("load %v: %d bytes, %v", f, len(got), err)
		}
	}
	if err := b.Remove(t.Context(), f); err != nil {
		t.Error(err)
	}
	if n := messages(t, b); n != before {
		t.Errorf("%d messages are left, want %d", n, before)
	}
}
