package azure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// translate returns the error that an error of Azure's library means. It holds
// neither a secret nor an address: that may have a signature in it.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	if storage.IsTranslated(err) {
		return err
	}
	var (
		answer *azcore.ResponseError
		login  *azidentity.AuthenticationFailedError
		odd    *httpclient.OddAnswer
		around *url.Error
		net    net.Error
	)
	switch {
	case errors.As(err, &login):
		return fmt.Errorf("%w: none of Azure's ways to log in gives credentials; set AZURE_ACCOUNT_KEY or AZURE_ACCOUNT_SAS, or log in with `az login`", storage.ErrReadOnly)
	case errors.As(err, &answer):
		return translateAnswer(answer)
	case errors.As(err, &odd):
		return odd
	case errors.As(err, &around) && httpclient.IsUnverified(err):
		return storage.Permanent(fmt.Errorf("%w: %w; if it is your own authority's certificate, name its file with -o azure.cacert=FILE", storage.ErrUnreachable, around.Err))
	case errors.As(err, &around) && httpclient.IsUntrusted(err):
		return storage.Permanent(fmt.Errorf("%w: %w", storage.ErrUnreachable, around.Err))
	case errors.As(err, &around):
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, around.Err)
	case errors.As(err, &net):
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, err)
	}
	return err
}

func translateAnswer(a *azcore.ResponseError) error {
	text := fmt.Sprintf("the server answers %d, %.100q", a.StatusCode, a.ErrorCode)
	is := func(codes ...bloberror.Code) bool { return slices.Contains(codes, bloberror.Code(a.ErrorCode)) }
	switch {
	case is(bloberror.ContainerNotFound):
		return fmt.Errorf("the container %w", storage.ErrNotExist)
	case a.StatusCode == http.StatusNotFound:
		return storage.ErrNotExist
	case is(bloberror.BlobAlreadyExists, bloberror.ConditionNotMet), a.StatusCode == http.StatusPreconditionFailed:
		return storage.ErrExist
	case is(bloberror.BlobImmutableDueToPolicy):
		return fmt.Errorf("%w: %s", storage.ErrRetained, text)
	case is(bloberror.AuthenticationFailed):
		return fmt.Errorf("%w: the key or signature is wrong or has expired, or this machine's clock is (%s)", storage.ErrReadOnly, text)
	case slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed}, a.StatusCode):
		return fmt.Errorf("%w: %s", storage.ErrReadOnly, text)
	case a.StatusCode == http.StatusInsufficientStorage, a.StatusCode == http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %s", storage.ErrFull, text)
	case slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, a.StatusCode), a.StatusCode >= 500 && a.StatusCode != http.StatusNotImplemented:
		err := fmt.Errorf("%w: %s", storage.ErrUnreachable, text)
		if a.RawResponse == nil {
			return err
		}
		return httpclient.Later(err, httpclient.RetryAfter(a.RawResponse.Header))
	}
	return errors.New(text)
}
