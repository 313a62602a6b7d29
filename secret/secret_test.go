package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"jetsam/secret"
)

const canary = "correct horse battery staple"

type exported struct{ Password secret.String }

type hidden struct{ password secret.String }

type deep struct{ inner []map[string]hidden }

func TestRevealGivesTheTextBack(t *testing.T) {
	if got := secret.New(canary).Reveal(); got != canary {
		t.Errorf("Reveal() = %q, want %q", got, canary)
	}
	var zero secret.String
	if got := zero.Reveal(); got != "" {
		t.Errorf("zero value reveals %q", got)
	}
}

func TestEmpty(t *testing.T) {
	tests := []struct {
		name string
		s    secret.String
		want bool
	}{
		{"zero value", secret.String{}, true},
		{"empty text", secret.New(""), true},
		{"white space is text", secret.New(" "), false},
		{"text", secret.New("x"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.s.Empty(); got != tt.want {
				t.Errorf("Empty() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNoVerbPrintsTheText(t *testing.T) {
	s := secret.New(canary)
	values := map[string]any{
		"value":          s,
		"pointer":        &s,
		"exported field": exported{s},
		"hidden field":   hidden{s},
		"behind pointer": &hidden{s},
		"deep":           deep{[]map[string]hidden{{"k": {s}}}},
		"slice":          []secret.String{s},
		"map key":        map[secret.String]int{s: 1},
		"error":          fmt.Errorf("connect with %v: %w", s, errors.New("refused")),
	}
	formats := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%t", "%e", "%p", "%64s", "%-3.2v"}
	for name, v := range values {
		for _, f := range formats {
			if out := fmt.Sprintf(f, v); leaks(out) {
				t.Errorf("%s with %s prints %q", name, f, out)
			}
		}
		if out := fmt.Sprint(v); leaks(out) {
			t.Errorf("Sprint(%s) prints %q", name, out)
		}
	}
	if got := fmt.Sprintf("%x", s); got != "***" {
		t.Errorf("%%x prints %q, want ***", got)
	}
}

func TestNoEncoderWritesTheText(t *testing.T) {
	s := secret.New(canary)
	var text, logfmt, gobbed bytes.Buffer
	slog.New(slog.NewJSONHandler(&text, nil)).Info("start", "password", s, "config", exported{s})
	slog.New(slog.NewTextHandler(&logfmt, nil)).Info("start", "password", s, "config", exported{s})
	if err := gob.NewEncoder(&gobbed).Encode(exported{s}); err != nil {
		t.Logf("gob refuses it: %v", err)
	}
	outputs := map[string]string{
		"json":      encode(t, json.Marshal, exported{s}),
		"xml":       encode(t, xml.Marshal, exported{s}),
		"slog json": text.String(),
		"slog text": logfmt.String(),
		"gob":       gobbed.String(),
	}
	for name, out := range outputs {
		if leaks(out) {
			t.Errorf("%s holds the secret: %q", name, out)
		}
	}
	if want := `{"Password":"***"}`; outputs["json"] != want {
		t.Errorf("json is %s, want %s", outputs["json"], want)
	}
	if !strings.Contains(outputs["slog json"], `"password":"***"`) {
		t.Errorf("slog does not show the mask: %s", outputs["slog json"])
	}
}

func encode(t *testing.T, marshal func(any) ([]byte, error), v any) string {
	t.Helper()
	out, err := marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// leaks reports whether out holds the canary, as text, as hexadecimal digits or
// as a list of decimal bytes.
func leaks(out string) bool {
	decimal := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), decimal} {
		if strings.Contains(out, form) {
			return true
		}
	}
	return strings.Contains(out, "horse")
}
