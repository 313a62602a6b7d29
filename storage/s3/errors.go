package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/minio/minio-go/v7"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// failed is the error of an operation on f. It names the bucket and the key.
func (b *Backend) failed(ctx context.Context, op string, f storage.File, err error) error {
	return fmt.Errorf("%s %v (%s/%s): %w", op, f, b.place.Bucket, b.key(f), b.translate(ctx, err))
}

// translate returns the error that a minio error means, in words for people. It
// holds neither a secret nor an address with a query.
func (b *Backend) translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	if storage.IsTranslated(err) {
		return err
	}
	var refusal minio.ErrorResponse
	if errors.As(err, &refusal) && refusal.StatusCode != 0 {
		return b.translateRefusal(ctx, refusal)
	}
	return translateNetwork(err)
}

// Codes of refusals, beside those that minio names.
var (
	fullCodes    = []string{"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", minio.EntityTooLarge}
	expiredCodes = []string{"ExpiredToken", "ExpiredTokenException"}
	unknownCodes = []string{minio.InvalidAccessKeyID, minio.SignatureDoesNotMatch, "InvalidToken", "InvalidClientTokenId"}
	regionCodes  = []string{minio.AuthorizationHeaderMalformed, "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException", minio.InvalidRegion}
)

// translateRefusal is translate for what a server answered.
func (b *Backend) translateRefusal(ctx context.Context, r minio.ErrorResponse) error {
	text, status := refusalText(r), r.StatusCode
	is := func(codes []string) bool { return slices.Contains(codes, r.Code) }
	switch {
	case r.Code == minio.NoSuchBucket:
		return fmt.Errorf("bucket %s %w", b.place.Bucket, storage.ErrNotExist)
	case r.Code == minio.NoSuchKey, status == http.StatusNotFound:
		return storage.ErrNotExist
	case status == http.StatusPreconditionFailed:
		return storage.ErrExist
	case is(fullCodes), status == http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %s", storage.ErrFull, text)
	case r.Code == minio.RequestTimeTooSkewed:
		return fmt.Errorf("%w: this machine's clock and the server's are too far apart; set it right (%s)", storage.ErrReadOnly, text)
	case is(expiredCodes) && b.renewed(ctx):
		return fmt.Errorf("%w: the credentials had expired; there are new ones", storage.ErrUnreachable)
	case is(expiredCodes):
		return fmt.Errorf("%w: the credentials have expired (%s)", storage.ErrReadOnly, text)
	case is(unknownCodes):
		return fmt.Errorf("%w: the server does not take the credentials (%s)", storage.ErrReadOnly, text)
	case is(regionCodes), status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		return fmt.Errorf("%w: the bucket is in another region%s; say which with -o s3.region=REGION (%s)", storage.ErrReadOnly, inRegion(r), text)
	case r.Code == minio.InvalidObjectState:
		return fmt.Errorf("%w: the object was moved to an archive and has to be restored from there (%s)", storage.ErrReadOnly, text)
	case slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed}, status):
		return fmt.Errorf("%w: %s", storage.ErrReadOnly, text)
	case slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, status),
		status >= 500 && status != http.StatusNotImplemented, r.Code == "RequestTimeout", r.Code == "SlowDown":
		return httpclient.Later(fmt.Errorf("%w: %s", storage.ErrUnreachable, text), httpclient.Asked(ctx))
	}
	return errors.New(text)
}

// refusalText is what a server said, without what a terminal would obey, and short.
func refusalText(r minio.ErrorResponse) string {
	const longest = 300
	text := strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}, fmt.Sprintf("%s: %s", r.Code, strings.TrimSpace(r.Error())))
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return fmt.Sprintf("the server answers %d, %s", r.StatusCode, text)
}

func inRegion(r minio.ErrorResponse) string {
	if r.Region == "" {
		return ""
	}
	return fmt.Sprintf(", %q", r.Region)
}

// translateNetwork is translate for what did not come to an answer.
func translateNetwork(err error) error {
	var (
		odd     *httpclient.OddAnswer
		around  *url.Error
		network net.Error
	)
	if errors.As(err, &odd) {
		return odd
	}
	if errors.As(err, &around) {
		// Without the address.
		err = around.Err
		if strings.HasPrefix(err.Error(), "Connection closed by foreign host") { // in which minio puts the address
			err = errors.New("the server closed the connection")
		}
	} else if !errors.As(err, &network) {
		return err
	}
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return storage.Permanent(fmt.Errorf("%w: the server speaks HTTP without TLS; write http:// before its name if that is as it should be", storage.ErrUnreachable))
	case httpclient.IsUnverified(err):
		return storage.Permanent(fmt.Errorf("%w: %w; if it is your own authority's certificate, name its file with -o s3.cacert=FILE", storage.ErrUnreachable, err))
	case httpclient.IsUntrusted(err):
		return storage.Permanent(fmt.Errorf("%w: %w", storage.ErrUnreachable, err))
	}
	return fmt.Errorf("%w: %w", storage.ErrUnreachable, err)
}

// isCode reports whether a server answered with a code.
func isCode(err error, code string) bool { return minio.ToErrorResponse(err).Code == code }

// isNotImplemented reports whether a server does not know what it was asked for.
func isNotImplemented(err error) bool {
	r := minio.ToErrorResponse(err)
	return r.StatusCode == http.StatusNotImplemented || r.Code == minio.NotImplemented
}
