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
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("push metrics: the address of the Pushgateway is no http:// or https:// URL")
	}
	user := u.User
	u.User = nil
	ctx, cancel := context.WithTimeout(ctx, pushTime)
	defer cancel()
	p := push.New(u.String(), job).Grouping(command, r.Command).Client(&http.Client{}).
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
