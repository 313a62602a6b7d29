package s3

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"jetsam/storage"
)

// lookup returns what minio calls the place of the bucket's name.
func (o Options) lookup() (minio.BucketLookupType, error) {
	switch o.Lookup {
	case "", "auto":
		return minio.BucketLookupAuto, nil
	case "dns":
		return minio.BucketLookupDNS, nil
	case "path":
		return minio.BucketLookupPath, nil
	}
	return 0, fmt.Errorf("%w: bucket lookup %q is not known; it is auto, dns or path", storage.ErrOption, o.Lookup)
}

// checkClass refuses storage classes whose objects must be thawed, which takes
// hours: a backup reads what others have stored.
func (o Options) checkClass() error {
	if slices.Contains([]string{"GLACIER", "DEEP_ARCHIVE"}, o.StorageClass) {
		return fmt.Errorf("%w: what has the storage class %s cannot be read when it is needed; GLACIER_IR can", storage.ErrOption, o.StorageClass)
	}
	return nil
}

// region returns where the bucket is: by the option, or by the environment.
func (o Options) region() string {
	for _, r := range []string{o.Region, os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")} {
		if r != "" {
			return r
		}
	}
	return ""
}

func (o Options) warn(format string, args ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Errorf(format, args...))
	}
}

// findCredentials looks for credentials where Amazon's own tools do, and returns
// those that it finds first.
func findCredentials(ctx context.Context, transport http.RoundTripper) (*credentials.Credentials, error) {
	id, key := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if (id == "") != (key == "") {
		return nil, fmt.Errorf("%w: of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set", storage.ErrReadOnly)
	}
	client := &http.Client{Transport: transport}
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	if os.Getenv("AWS_EC2_METADATA_DISABLED") != "true" {
		providers = append(providers, &credentials.IAM{Client: client})
	}
	creds := credentials.NewChainCredentials(providers)

	const patience = 5 * time.Second // for the server that tells a machine its role
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := creds.GetWithContext(&credentials.CredContext{Client: client, Context: asking})
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return nil, cancelled
	}
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	if v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, fmt.Errorf("%w: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a file of credentials; this machine has no role either", storage.ErrNoCredentials)
	}
	return creds, nil
}

// renewed fetches the credentials anew when the server says that they have expired,
// and reports whether they are others now. Of many requests that are refused at once
// the first one fetches them.
func (b *Backend) renewed(ctx context.Context) bool {
	b.renewal.Lock()
	defer b.renewal.Unlock()
	if !b.renewal.at.IsZero() && time.Since(b.renewal.at) < time.Minute {
		return true
	}
	cc := &credentials.CredContext{Client: &http.Client{Transport: b.http}, Context: ctx}
	old, err := b.creds.GetWithContext(cc)
	if err != nil {
		return false
	}
	b.creds.Expire()
	v, err := b.creds.GetWithContext(cc)
	old.Expiration = v.Expiration // by which alone the same ones differ
	if err != nil || v == old || v.AccessKeyID == "" {
		return false
	}
	b.renewal.at = time.Now()
	return true
}
