package s3_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"jetsam/storage"
	"jetsam/storage/s3"
	"jetsam/storage/s3/s3test"
	"jetsam/storage/storagetest"
)

// lockedBucket makes a bucket that keeps every object for a day.
func lockedBucket(t *testing.T, url string) (*minio.Client, string) {
	t.Helper()
	c, err := minio.New(strings.TrimPrefix(url, "http://"), &minio.Options{Creds: credentials.NewStaticV4(s3test.Key, s3test.Secret, "")})
	if err != nil {
		t.Fatal(err)
	}
	const bucket = "locked"
	if err := c.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{ObjectLocking: true}); err != nil {
		t.Fatal(err)
	}
	mode, days, unit := minio.Compliance, uint(1), minio.Days
	if err := c.SetBucketObjectLockConfig(t.Context(), bucket, &mode, &days, &unit); err != nil {
		t.Fatal(err)
	}
	return c, bucket
}

// TestRetention: in a bucket that keeps every version, what is removed is gone from the list, as elsewhere, and what was there before can
// be had still.
func TestRetention(t *testing.T) {
	t.Parallel()
	url := s3test.Versity(t)
	c, bucket := lockedBucket(t, url)
	be := openAt(t, url+"/"+bucket+"/kept", s3.Options{})
	f, data := storagetest.RandomFile(storage.Pack, 1000)
	wantError(t, "save", be.Save(t.Context(), f, data), nil)
	wantError(t, "remove", be.Remove(t.Context(), f), nil)
	_, err := be.Load(t.Context(), f, 0, -1)
	wantError(t, "load", err, storage.ErrNotExist)
	for info, err := range be.List(t.Context(), storage.Pack) {
		t.Errorf("listed: %v, %v", info, err)
	}
	// Amazon's would take it.
	if err := be.Save(t.Context(), f, data); !errors.Is(err, storage.ErrExist) || !strings.Contains(err.Error(), "another prefix") {
		t.Errorf("save again: %v", err)
	}
	versions := 0
	for o := range c.ListObjects(t.Context(), bucket, minio.ListObjectsOptions{Prefix: "kept/" + f.Path(), WithVersions: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		if o.IsDeleteMarker {
			continue
		}
		versions++
		if err := c.RemoveObject(t.Context(), bucket, o.Key, minio.RemoveObjectOptions{VersionID: o.VersionID}); err == nil {
			t.Error("the version that is retained can be removed")
		}
	}
	if versions != 1 {
		t.Errorf("%d versions are left, want 1", versions)
	}
}

// TestRetained: a server that refuses to remove what is retained is asked until when.
func TestRetained(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, tt := range map[string]struct {
		retention, hold string
		want            error
		says            string
	}{
		"retained":   {`<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>` + until.Format(time.RFC3339) + `</RetainUntilDate></Retention>`, "", storage.ErrRetained, until.Format(time.RFC3339)},
		"was":        {`<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2020-01-01T00:00:00Z</RetainUntilDate></Retention>`, "", storage.ErrReadOnly, "403"},
		"legal hold": {"", `<LegalHold><Status>ON</Status></LegalHold>`, storage.ErrRetained, "legal hold"},
		"no reason":  {"", "", storage.ErrReadOnly, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := map[string]string{"retention": tt.retention, "legal-hold": tt.hold}
			be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
				for query, answer := range answers {
					if r.URL.Query().Has(query) && answer != "" {
						w.Write([]byte(answer))
						return
					}
				}
				if r.Method == http.MethodHead {
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
					return
				}
				refuse(w, 403, "AccessDenied", "Object is WORM protected and cannot be overwritten")
			})
			f, _ := storagetest.RandomFile(storage.Snapshot, 10)
			err := be.Remove(t.Context(), f)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %v and %q", err, tt.want, tt.says)
			}
		})
	}
}
