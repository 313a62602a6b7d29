package gs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"jetsam/internal/abandon"
	"jetsam/storage"
)

// scope is what is asked for: to read and write objects, and to make a bucket.
const scope = "https://www.googleapis.com/auth/devstorage.read_write"

// remedy ends errors about credentials.
const remedy = "set GOOGLE_APPLICATION_CREDENTIALS to a service account's key file, or GOOGLE_ACCESS_TOKEN, or log in with `gcloud auth application-default login`"

// credentials give tokens: that of the environment, or what Google's own tools know.
type credentials struct {
	client *http.Client
	most   time.Duration // that getting a token may take

	mu     sync.Mutex
	source oauth2.TokenSource // nil: not found yet
}

// token returns a token that is valid now. Looking for credentials, and asking for a
// token, may begin with a server that is on Google's machines only and that nobody
// answers for elsewhere, and cannot be cancelled; so it is left to itself in the end.
func (c *credentials) token(ctx context.Context) (*oauth2.Token, error) {
	errLate := fmt.Errorf("%w: Google's servers gave no token within %v; where they cannot be reached, %s", storage.ErrUnreachable, c.most, remedy)
	waiting, cancel := context.WithTimeoutCause(ctx, c.most, errLate)
	defer cancel()
	token, err := abandon.Run(waiting, c.fetch, func(*oauth2.Token, error) {})
	if err != nil && ctx.Err() != nil {
		return nil, storage.Cancelled(ctx)
	}
	return token, err
}

func (c *credentials) fetch() (*oauth2.Token, error) {
	source, err := c.find()
	if err != nil {
		return nil, err
	}
	t, err := source.Token()
	if err != nil {
		return nil, refusedToken(err)
	}
	return t, nil
}

func (c *credentials) find() (oauth2.TokenSource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source != nil {
		return c.source, nil
	}
	if token := strings.TrimSpace(os.Getenv("GOOGLE_ACCESS_TOKEN")); token != "" {
		c.source = oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token})
		return c.source, nil
	}
	file := os.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	if file != "" {
		if _, err := os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("%w: read what GOOGLE_APPLICATION_CREDENTIALS names: %w", storage.ErrReadOnly, err)
		}
	}
	found, err := google.FindDefaultCredentials(context.WithValue(context.Background(), oauth2.HTTPClient, c.client), scope)
	switch {
	case err != nil && file != "": // and not what it says: that may be from the file
		return nil, fmt.Errorf("%w: what GOOGLE_APPLICATION_CREDENTIALS names, %s, is no file of credentials", storage.ErrReadOnly, file)
	case err != nil:
		return nil, fmt.Errorf("%w that can be used: %s", storage.ErrNoCredentials, remedy)
	}
	c.source = found.TokenSource
	return c.source, nil
}

// refusedToken says why there is no token. What a server answered may hold what it
// was sent, so that nothing of it is told but its code.
func refusedToken(err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return fmt.Errorf("%w: there is no token for the credentials: %.300q", storage.ErrUnreachable, err.Error())
	}
	var answer struct {
		Code string `json:"error"`
	}
	_ = json.Unmarshal(refused.Body, &answer) // without one, the status says enough
	text, status := fmt.Sprintf("the server of tokens answers %d, %.100q", refused.Response.StatusCode, answer.Code), refused.Response.StatusCode
	if status == http.StatusTooManyRequests || status >= 500 {
		return fmt.Errorf("%w: %s", storage.ErrUnreachable, text)
	}
	return fmt.Errorf("%w: Google gives no token for the credentials: they are wrong, or were withdrawn, or this machine's clock is wrong (%s)", storage.ErrReadOnly, text)
}
