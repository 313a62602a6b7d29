package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
	dto "github.com/prometheus/client_model/go"
)

// pushTime is how long a Pushgateway may take.
const pushTime = 15 * time.Second

// Push sends what is told of a run to the Pushgateway at address, as the group of
// that job and the run's command. The address may hold a user and a password; no
// error repeats them.
func Push(ctx context.Context, address, job string, r Run) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery+u.Fragment != "" {
		return errors.New("push metrics: the address of the Pushgateway is no http:// or https:// URL, without a query")
	}
	user := u.User
	u.User = nil
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	client := &http.Client{
		// What is sent on is a request for a page, whose answer says nothing of metrics.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p := push.New(u.String(), job).Grouping(command, r.Command).Client(client).
		Gatherer(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return r.families(), nil }))
	if user != nil {
		password, _ := user.Password()
		p = p.BasicAuth(user.Username(), password)
	}
	if err := p.AddContext(ctx); err != nil {
		return fmt.Errorf("push metrics: %w", err)
	}
	return nil
}
