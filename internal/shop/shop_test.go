package shop

import (
	"strings"
	"testing"

	"jetsam/internal/natsd"
)

func startServer(t *testing.T) *natsd.Server {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	return srv
}

func stored(t *testing.T, s *Shop) int {
	t.Helper()
	n, err := s.Stored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func look(t *testing.T, srv *natsd.Server) *Account {
	t.Helper()
	a, err := Look(t.Context(), srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestShopIsBelievable(t *testing.T) {
	srv := startServer(t)
	s, err := Open(t.Context(), srv.URL(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Trade(t.Context(), 600); err != nil {
		t.Fatal(err)
	}
	a := look(t, srv)
	if got := len(a.Streams); got != 4 {
		t.Errorf("%d streams, want 4", got)
	}
	if got := a.Messages(); got < 1200 {
		t.Errorf("%d messages, want 1200 or more", got)
	}
	for _, stream := range a.Streams {
		if stream.Name == Orders && stream.State.Deleted == 0 {
			t.Error("no gap in the orders")
		}
		for _, c := range stream.Consumers {
			t.Log(stream.Name, c.Name, c.Progress)
			if strings.Contains(c.Progress, "delivered 0/0") {
				t.Errorf("consumer %s of %s has not begun", c.Name, stream.Name)
			}
			if stream.Name == Orders && strings.Contains(c.Progress, " 0 waiting") {
				t.Errorf("consumer %s has nothing pending", c.Name)
			}
		}
	}
	if d := Diff(a, look(t, srv)); len(d) > 0 {
		t.Errorf("the same account differs from itself: %q", d)
	}
	before := stored(t, s)
	if err := s.Trade(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	if got := stored(t, s) - before; got < 80 {
		t.Errorf("20 orders are %d new messages, want 80 or more", got)
	}
	if d := Diff(a, look(t, srv)); len(d) < 6 {
		t.Errorf("differences after more trade: %q, want some of every stream", d)
	}
}

func TestDiff(t *testing.T) {
	account := func(change func(*Stream)) *Account {
		s := Stream{
			Name: "S", Config: "{}", State: State{Messages: 2, FirstSeq: 1, LastSeq: 2},
			Messages:  []Message{{Seq: 1, Digest: [32]byte{1}}, {Seq: 2, Digest: [32]byte{2}}},
			Consumers: []Consumer{{Name: "C", Config: "{}", Progress: "none"}},
		}
		change(&s)
		return &Account{Streams: []Stream{s}}
	}
	was := account(func(*Stream) {})
	for _, tc := range []struct {
		name, want string
		change     func(*Stream)
	}{
		{"equal", "", func(*Stream) {}},
		{"renamed", "stream S is missing", func(s *Stream) { s.Name = "T" }},
		{"configuration", "configuration is", func(s *Stream) { s.Config = "{1}" }},
		{"state", "state is", func(s *Stream) { s.State.LastSeq++ }},
		{"message lost", "number of messages", func(s *Stream) { s.Messages = s.Messages[:1] }},
		{"message changed", "message 2 differs", func(s *Stream) { s.Messages[1].Digest[0]++ }},
		{"sequence changed", "message 2 differs (message 3 there)", func(s *Stream) { s.Messages[1].Seq++ }},
		{"consumer lost", "number of consumers", func(s *Stream) { s.Consumers = nil }},
		{"consumer's progress", "consumer C: progress", func(s *Stream) { s.Consumers[0].Progress = "all" }},
		{"consumer's configuration", "consumer C: configuration", func(s *Stream) { s.Consumers[0].Config = "{1}" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := strings.Join(Diff(was, account(tc.change)), "\n")
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("Diff = %q, want %q", got, tc.want)
			}
		})
	}
	if got := Diff(was, &Account{}); len(got) != 1 {
		t.Errorf("Diff with an empty account = %q", got)
	}
	if got := Diff(&Account{}, was); len(got) != 1 || !strings.Contains(got[0], "without being asked for") {
		t.Errorf("Diff of an empty account = %q", got)
	}
}
