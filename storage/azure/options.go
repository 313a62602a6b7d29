package azure

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"jetsam/storage"
)

// Place is where a repository is: a container of the account that the environment
// names, and what the names of its blobs begin with.
type Place struct {
	Container string
	Prefix    string // without a slash at either end; may be empty
}

// ParsePlace reads CONTAINER:/[PREFIX].
func ParsePlace(text string) (Place, error) {
	const form = "it has to be CONTAINER:/[PREFIX], with the account in AZURE_ACCOUNT_NAME"
	name, prefix, found := strings.Cut(text, ":")
	if !found || name == "" || strings.ContainsAny(name, "/\\") || strings.ContainsAny(text, "?#@") || strings.HasPrefix(prefix, "//") {
		return Place{}, errors.New(form) // and the text is not in it: it may hold a signature
	}
	return Place{name, strings.Trim(path.Clean("/"+prefix), "/")}, nil
}

// String returns the place as ParsePlace reads it.
func (p Place) String() string { return p.Container + ":/" + p.Prefix }

// key returns the name of the blob at a path below the place.
func (p Place) key(below string) string { return path.Join(p.Prefix, below) }

// Options are what one may choose. The zero value will do.
type Options struct {
	Endpoint string // the account's address, where it is not Azure's
	CACert   string // a file of certificates that are trusted instead of the system's

	Idle time.Duration // how long nothing may move on a connection; httpclient.Idle if it is zero
}

// endpoint returns the account's address.
func (o Options) endpoint(account string) (*url.URL, error) {
	text := o.Endpoint
	if text == "" {
		suffix := os.Getenv("AZURE_ENDPOINT_SUFFIX")
		if suffix == "" {
			suffix = "core.windows.net"
		}
		text = "https://" + account + ".blob." + suffix
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%w: the account's address has to be http[s]://HOST[:PORT][/ACCOUNT]", storage.ErrOption)
	}
	return u, nil
}

// connect returns a client for a container, and the host that it speaks to. The
// credentials are the first of a key, a signature, and what Azure's own tools know.
func (o Options) connect(name string, transport http.RoundTripper) (*container.Client, string, error) {
	account, key, sas := os.Getenv("AZURE_ACCOUNT_NAME"), os.Getenv("AZURE_ACCOUNT_KEY"), strings.TrimSpace(os.Getenv("AZURE_ACCOUNT_SAS"))
	if account == "" {
		return nil, "", fmt.Errorf("%w: set AZURE_ACCOUNT_NAME", storage.ErrNoCredentials)
	}
	u, err := o.endpoint(account)
	if err != nil {
		return nil, "", err
	}
	u = u.JoinPath(name)
	common := policy.ClientOptions{
		Retry: policy.RetryOptions{MaxRetries: -1},
		Transport: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	opts := &container.ClientOptions{ClientOptions: common}
	switch {
	case key != "":
		cred, err := container.NewSharedKeyCredential(account, key)
		if err != nil {
			return nil, "", fmt.Errorf("%w: AZURE_ACCOUNT_KEY is no key: it has to be base64", storage.ErrReadOnly)
		}
		c, err := container.NewClientWithSharedKeyCredential(u.String(), cred, opts)
		return c, u.Host, err
	case sas != "":
		u.RawQuery = strings.TrimPrefix(sas, "?")
		c, err := container.NewClientWithNoCredential(u.String(), opts)
		return c, u.Host, err
	}
	var cred azcore.TokenCredential
	cred, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("%w: set AZURE_ACCOUNT_KEY or AZURE_ACCOUNT_SAS (%w)", storage.ErrNoCredentials, err)
	}
	c, err := container.NewClient(u.String(), cred, opts)
	return c, u.Host, err
}
