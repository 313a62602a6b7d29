package gs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// answerError is an answer that says that nothing was done.
type answerError struct {
	status          int
	reason, message string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the server answers %d, %.300q", e.status, strings.Trim(e.reason+": "+e.message, ": "))
}

// kept reports whether a deletion was refused for a retention or a hold. Older
// answers give no reason of their own for that.
func (e *answerError) kept() bool {
	return slices.Contains([]string{"retentionPolicyNotMet", "objectUnderActiveHold"}, e.reason) ||
		e.status == http.StatusForbidden && strings.Contains(e.message, "cannot be deleted")
}

// refusal is the error that an answer means.
func refusal(resp *http.Response) error {
	const longest = 64 << 10
	text, _ := io.ReadAll(io.LimitReader(resp.Body, longest)) // what is missing would only explain
	e := &answerError{status: resp.StatusCode}
	e.reason, e.message = said(text)
	return httpclient.Later(e.translate(), httpclient.RetryAfter(resp.Header))
}

// said is what the body of a refusal says: a reason, and for people a message.
func said(text []byte) (reason, message string) {
	var answer struct {
		Error struct {
			Message string
			Errors  []struct{ Reason string }
		}
	}
	err := json.Unmarshal(text, &answer)
	switch plain := strings.TrimSpace(string(text)); {
	case err != nil && strings.HasPrefix(plain, "<"): // a page
		return "", ""
	case err != nil:
		return "", plain
	case len(answer.Error.Errors) > 0:
		reason = answer.Error.Errors[0].Reason
	}
	return reason, answer.Error.Message
}

func (e *answerError) translate() error {
	is := func(reasons ...string) bool { return slices.Contains(reasons, e.reason) }
	switch {
	case e.status == http.StatusNotFound && strings.Contains(e.message, "bucket does not exist"):
		return fmt.Errorf("the bucket %w: %w", storage.ErrNotExist, e)
	case e.status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", storage.ErrNotExist, e)
	case e.status == http.StatusPreconditionFailed && !is("orgPolicyConstraintFailed"):
		return fmt.Errorf("%w: %w", storage.ErrExist, e)
	case e.kept():
		return fmt.Errorf("%w: %w", storage.ErrRetained, e)
	case is("rateLimitExceeded", "userRateLimitExceeded"),
		slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests}, e.status),
		e.status >= 500 && e.status != http.StatusNotImplemented && e.status != http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, e)
	case is("quotaExceeded"), e.status == http.StatusInsufficientStorage, e.status == http.StatusRequestEntityTooLarge:
		return fmt.Errorf("%w: %w", storage.ErrFull, e)
	case e.status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the server does not take the token, which is wrong or has expired (%w)", storage.ErrReadOnly, e)
	case slices.Contains([]int{http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusPreconditionFailed}, e.status):
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, e)
	}
	return e
}
