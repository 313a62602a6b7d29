package archive

import (
	"fmt"
	"testing"
)

func TestHeaderFields(t *testing.T) {
	for block, want := range map[string]string{
		"":                                       "map[]",
		"NATS/1.0\r\n\r\n":                       "map[]",
		"NATS/1.0\r\nA: b\r\n\r\n":               "map[A:[b]]",
		"NATS/1.0\r\nA:1\r\nb:\r\nA: 2 \r\n\r\n": "map[A:[1 2] b:[]]",
		"NATS/1.0 503 none\r\n\r\n":              "",
		"NATS/1.0\r\nodd\r\n\r\n":                "",
		"NATS/1.0\r\n: x\r\n\r\n":                "",
		"NATS/1.0\r\nA: \xff\r\n\r\n":            "",
		"A: b\r\n":                               "",
	} {
		fields, ok := HeaderFields([]byte(block))
		if ok != (want != "") || ok && fmt.Sprint(fields) != want {
			t.Errorf("%q has %v, %v, want %q", block, fields, ok, want)
		}
	}
}
