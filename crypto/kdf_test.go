package crypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestDeriveVector(t *testing.T) {
	const want = "a96d445d494618cfeb07c4613b60a87ccb1f67d0414cb68fa7416ae2549da0e5" +
		"5894b7d1ed5a16e4a317a2fb366fa9323ac0f5bd5f84e855fbe69c6a4be17e7c"
	key, err := KDF{N: 16384, R: 8, P: 1}.Derive("pässword", sequence(0, SaltSize))
	if err != nil {
		t.Fatal(err)
	}
	got := bytes.Join([][]byte{key.encrypt[:], key.k[:], key.r[:]}, nil)
	if hex.EncodeToString(got) != want {
		t.Errorf("derived %x, want %s", got, want)
	}
}

func TestValidate(t *testing.T) {
	tests := []struct {
		name string
		kdf  KDF
		ok   bool
	}{
		{"what restic starts from", KDF{32768, 8, 1}, true},
		{"least", KDF{2, 1, 1}, true},
		{"most memory", KDF{1 << 20, 8, 1}, true},
		{"most passes", KDF{1 << 14, 8, 64}, true},
		{"zero", KDF{}, false},
		{"N of 1", KDF{1, 8, 1}, false},
		{"N odd", KDF{16383, 8, 1}, false},
		{"N even but no power of two", KDF{16386, 8, 1}, false},
		{"N negative", KDF{-16384, 8, 1}, false},
		{"N the least integer", KDF{-1 << 63, 8, 1}, false},
		{"r zero", KDF{16384, 0, 1}, false},
		{"p zero", KDF{16384, 8, 0}, false},
		{"r negative", KDF{16384, -8, 1}, false},
		{"p too large", KDF{16384, 8, 65}, false},
		{"memory above 1 GiB", KDF{1 << 21, 8, 1}, false},
		{"memory above 1 GiB by r", KDF{16384, 513, 1}, false},
		{"N of 2^40", KDF{1 << 40, 8, 1}, false},
		{"N of 2^62", KDF{1 << 62, 1 << 62, 1}, false},
		{"r·p of 2^30", KDF{2, 1 << 30, 1}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.kdf.Validate()
			if (err == nil) != tt.ok {
				t.Errorf("Validate() = %v, want ok %v", err, tt.ok)
			}
			if _, deriveErr := tt.kdf.Derive("x", nil); deriveErr == nil || (err != nil && deriveErr.Error() != err.Error()) {
				t.Errorf("Derive does not heed Validate: %v", deriveErr)
			}
		})
	}
}

func TestDeriveRefusesSalt(t *testing.T) {
	for _, n := range []int{0, 63, 65} {
		_, err := KDF{2, 1, 1}.Derive("x", make([]byte, n))
		if err == nil || !strings.Contains(err.Error(), "salt") {
			t.Errorf("salt of %d bytes: error is %v", n, err)
		}
	}
}

func TestCalibrate(t *testing.T) {
	const mib = 1 << 20
	ms := time.Millisecond
	tests := []struct {
		name   string
		perMiB time.Duration // what a machine takes per MiB and pass
		target time.Duration
		memory int
		want   KDF
	}{
		{"restic's bounds on a common machine", 2 * ms, 500 * ms, 60 * mib, KDF{1 << 15, 8, 7}},
		{"fast machine", ms / 10, 500 * ms, 60 * mib, KDF{1 << 15, 8, 64}},
		{"slow machine", 20 * ms, 500 * ms, 60 * mib, KDF{1 << 14, 8, 1}},
		{"too slow for its target", 100 * ms, 500 * ms, 60 * mib, KDF{1 << 14, 8, 1}},
		{"time is spent on memory first", 2 * ms, 500 * ms, 1 << 30, KDF{1 << 17, 8, 1}},
		{"memory beyond what may be read", ms / 1000, time.Hour, 1 << 40, KDF{1 << 20, 8, 64}},
		{"least memory", ms, 500 * ms, 16 * mib, KDF{1 << 14, 8, 31}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			machine := func(c KDF) (time.Duration, error) {
				return time.Duration(c.memory()/mib*c.P) * tt.perMiB, nil
			}
			got, err := calibrate(tt.target, tt.memory, machine)
			if err != nil || got != tt.want {
				t.Errorf("calibrate = %+v, %v, want %+v", got, err, tt.want)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("the result is not valid: %v", err)
			}
		})
	}
}

func TestCalibrateFails(t *testing.T) {
	if _, err := Calibrate(time.Second, 16<<20-1); err == nil {
		t.Error("too little memory is accepted")
	}
	fault := errors.New("injected")
	failing := func(KDF) (time.Duration, error) { return 0, fault }
	if _, err := calibrate(time.Second, 64<<20, failing); !errors.Is(err, fault) {
		t.Errorf("error of the measurement is %v", err)
	}
	stopped := func(KDF) (time.Duration, error) { return 0, nil }
	if _, err := calibrate(time.Second, 64<<20, stopped); err == nil {
		t.Error("a clock that stands still is accepted")
	}
}

func TestCalibrateHere(t *testing.T) {
	got, err := Calibrate(time.Millisecond, 16<<20)
	if want := (KDF{minN, calibratedR, 1}); err != nil || got != want {
		t.Errorf("Calibrate = %+v, %v, want %+v", got, err, want)
	}
}

func BenchmarkDerive(b *testing.B) {
	salt := make([]byte, SaltSize)
	for b.Loop() {
		if _, err := (KDF{32768, 8, 1}).Derive("password", salt); err != nil {
			b.Fatal(err)
		}
	}
}
