// Package observe tells what the server does, to the log and to the metrics: one
// line and one count for each request, grant and key fetch.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"time"

	"itwin-token-server/internal/upstream"
)

// Metric begins the name of every metric that is this server's own.
const Metric = "itwin_token_server_"

// The bounds of the histograms, in seconds: a request takes microseconds or
// waits for upstream; a fetch crosses the internet, and ends after 10 s.
var (
	requestBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2.5, 5, 10}
	fetchBounds   = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10}
)

// unsent is the result of a grant that had no secret to be sent with.
const unsent = "secret"

// An Observer is told of requests and fetches.
type Observer struct {
	Metrics  Registry
	log      *slog.Logger
	requests map[string]*Counter // by reason
	duration *Histogram
}

// New makes an observer; outcomes are the reasons that a request can end with,
// each with its status.
func New(log *slog.Logger, outcomes map[string]int) *Observer {
	o := &Observer{log: log, requests: make(map[string]*Counter)}
	for _, reason := range slices.Sorted(maps.Keys(outcomes)) {
		o.requests[reason] = o.Metrics.Counter(Metric+"requests_total", "Requests to /getToken, by status and reason.",
			"status", strconv.Itoa(outcomes[reason]), "reason", reason)
	}
	o.duration = o.Metrics.Histogram(Metric+"request_duration_seconds", "Time from a request's header to its answer.", requestBounds...)
	return o
}

// Request tells of an answered request: for the log, the caller's subject and
// the handed-out token's fingerprint, where there are such.
func (o *Observer) Request(ctx context.Context, status int, reason string, took time.Duration, subject, fingerprint string) {
	o.requests[reason].Inc()
	o.duration.Observe(took)
	level := slog.LevelInfo
	if status >= 500 && ctx.Err() == nil { // who has left is nobody's trouble
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, 5)
	attrs = append(attrs, slog.Int("status", status), slog.Float64("ms", math.Round(took.Seconds()*1e6)/1e3))
	if status != 200 {
		attrs = append(attrs, slog.String("reason", reason))
	}
	if subject != "" {
		attrs = append(attrs, slog.String("sub", subject))
	}
	if fingerprint != "" {
		attrs = append(attrs, slog.String("token", fingerprint))
	}
	o.log.LogAttrs(ctx, level, "getToken", attrs...)
}

// Fetches returns what hears of each fetch of one kind: it counts them under the
// two names, and logs a failure, the first success, and the success that ends an
// outage.
func (o *Observer) Fetches(what, counter, duration string) func(time.Duration, error) {
	results := make(map[string]*Counter)
	for _, result := range []string{"ok", string(upstream.Refused), string(upstream.Throttled), string(upstream.Nonsense), string(upstream.Unreachable), string(upstream.Slow), unsent} {
		results[result] = o.Metrics.Counter(Metric+counter, "Fetches of "+what+", by result.", "result", result)
	}
	took := o.Metrics.Histogram(Metric+duration, "Time that a fetch of "+what+" takes.", fetchBounds...)
	fine := false
	return func(d time.Duration, err error) {
		took.Observe(d)
		results[result(err)].Inc()
		ms := slog.Int64("ms", d.Milliseconds())
		switch {
		case err != nil:
			o.log.Warn("no "+what, "error", err, ms)
		case !fine:
			o.log.Info("got "+what, ms)
		default:
			o.log.Debug("renewed "+what, ms)
		}
		fine = err == nil
	}
}

// Gauges declares what is looked up at a scrape. A time that is zero means that
// there has been none.
func (o *Observer) Gauges(version, commit string, tokenExpires, keysFetched func() time.Time) {
	o.Metrics.Gauge(Metric+"token_expiry_timestamp_seconds", "When the iTwin token expires; 0 where there has been none.", func() (float64, bool) {
		return seconds(tokenExpires()), true
	})
	o.Metrics.Gauge(Metric+"keys_age_seconds", "Time since the Auth0 keys in use were fetched.", func() (float64, bool) {
		fetched := keysFetched()
		return time.Since(fetched).Seconds(), !fetched.IsZero()
	})
	o.Metrics.Gauge(Metric+"build_info", "The build; always 1.", func() (float64, bool) { return 1, true },
		"version", version, "commit", commit, "go_version", runtime.Version())
	started := seconds(time.Now())
	o.Metrics.Gauge("process_start_time_seconds", "When the process started.", func() (float64, bool) { return started, true })
}

// CertificateExpiry declares when the TLS certificate in use ends.
func (o *Observer) CertificateExpiry(ends func() time.Time) {
	o.Metrics.Gauge(Metric+"tls_certificate_expiry_timestamp_seconds", "When the TLS certificate in use ends.", func() (float64, bool) {
		t := ends()
		return seconds(t), !t.IsZero()
	})
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}

// Certificate hears of each look at the TLS certificate.
func (o *Observer) Certificate(_ time.Duration, err error) {
	if err != nil {
		o.log.Error("the TLS certificate cannot be used; the one before serves on, if there is one", "error", err)
	}
}

func result(err error) string {
	var failed *upstream.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &failed):
		return string(failed.Kind)
	}
	return unsent
}
