package crypto

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

var errNotJSON = errors.New("key is not JSON")

// checkUniqueFields refuses JSON in which an object names a field twice, because
// readers disagree on which of the two counts. Names that differ in case only
// are the same, as they are to encoding/json.
func checkUniqueFields(text []byte) error {
	return checkValue(json.NewDecoder(bytes.NewReader(text)))
}

// checkValue reads one value. The text is short, which bounds the recursion.
func checkValue(dec *json.Decoder) error {
	tok, err := dec.Token()
	if err != nil {
		return errNotJSON // the cause might quote secret bytes
	}
	switch tok {
	case json.Delim('{'):
		return checkObject(dec)
	case json.Delim('['):
		return checkArray(dec)
	}
	return nil
}

// checkObject reads what follows an opening brace, up to the closing one.
func checkObject(dec *json.Decoder) error {
	seen := make(map[string]bool)
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return errNotJSON
		}
		name := strings.ToLower(fmt.Sprint(tok))
		if seen[name] {
			return fmt.Errorf("key names the field %.20q twice", name)
		}
		seen[name] = true
		if err := checkValue(dec); err != nil {
			return err
		}
	}
	return closeValue(dec)
}

// checkArray reads what follows an opening bracket, up to the closing one.
func checkArray(dec *json.Decoder) error {
	for dec.More() {
		if err := checkValue(dec); err != nil {
			return err
		}
	}
	return closeValue(dec)
}

func closeValue(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return errNotJSON
	}
	return nil
}
