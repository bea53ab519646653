// Package telemetry records what the server does in its log and its metrics: one
// line and one count for each request, grant and key fetch.
package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"itwin-token-server/internal/upstream"
)

// prefix begins the name of every metric that is not a standard one.
const prefix = "itwin_token_server_"

const (
	// other is the reason or result that was not foreseen.
	other = "other"

	// notSent is the result of a grant for which there was no secret to send.
	notSent = "secret"
)

// An Observer records requests and fetches.
type Observer struct {
	Metrics  Registry
	log      *slog.Logger
	requests map[string]*Counter // by reason
	duration *Histogram
}

// An Outcome is a status and the reason for it, one of a fixed set of words.
type Outcome struct {
	Status int
	Reason string
}

// New returns an observer. The outcomes are those that a request can have; any
// other is counted under the reason "other".
func New(log *slog.Logger, outcomes ...Outcome) *Observer {
	o := &Observer{log: log, requests: make(map[string]*Counter)}
	for _, outcome := range append(outcomes, Outcome{500, other}) {
		o.requests[outcome.Reason] = o.Metrics.Counter(prefix+"requests_total", "Requests to /getToken, by status and reason.",
			"status", strconv.Itoa(outcome.Status), "reason", outcome.Reason)
	}
	o.duration = o.Metrics.Histogram(prefix+"request_duration_seconds", "Time from a request's header to its answer.",
		.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2.5, 5, 10) // a request takes microseconds, or waits for a fetch
	return o
}

// A Request is what is recorded of a request to /getToken.
type Request struct {
	Status   int
	Reason   string
	Duration time.Duration
	Subject  string // of the verified user token, as [Subject] returns it
	Token    string // the fingerprint of the iTwin token in the answer
}

// Request records a request: a line at info, or at warn for a server error, unless
// the caller has disconnected.
func (o *Observer) Request(ctx context.Context, r Request) {
	counter(o.requests, r.Reason).Inc()
	o.duration.Observe(r.Duration)
	level := slog.LevelInfo
	if r.Status >= 500 && ctx.Err() == nil {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, 5)
	attrs = append(attrs, slog.Int("status", r.Status), slog.Float64("ms", math.Round(r.Duration.Seconds()*1e6)/1e3))
	if r.Status != 200 {
		attrs = append(attrs, slog.String("reason", r.Reason))
	}
	if r.Subject != "" {
		attrs = append(attrs, slog.String("sub", r.Subject))
	}
	if r.Token != "" {
		attrs = append(attrs, slog.String("token", r.Token))
	}
	o.log.LogAttrs(ctx, level, "getToken", attrs...)
}

// Fetches returns the function to call after each fetch of one kind. It counts
// them under the two names, and logs failures, the first success, and the success
// that ends an outage.
func (o *Observer) Fetches(what, total, duration string) func(time.Duration, error) {
	results := make(map[string]*Counter)
	for _, kind := range []upstream.Kind{"ok", upstream.Refused, upstream.Throttled, upstream.Nonsense, upstream.Unreachable, upstream.Slow, notSent, other} {
		results[string(kind)] = o.Metrics.Counter(prefix+total, "Fetches of "+what+", by result.", "result", string(kind))
	}
	durations := o.Metrics.Histogram(prefix+duration, "Time that a fetch of "+what+" takes.",
		.05, .1, .25, .5, 1, 2.5, 5, 10) // a fetch crosses the internet, and ends after 10 s
	healthy := false
	return func(d time.Duration, err error) {
		durations.Observe(d)
		counter(results, result(err)).Inc()
		ms := slog.Int64("ms", d.Milliseconds())
		switch {
		case err != nil:
			o.log.Warn("no "+what, "error", err, ms)
		case !healthy:
			o.log.Info("got "+what, ms)
		default:
			o.log.Debug("renewed "+what, ms)
		}
		healthy = err == nil
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
	return notSent
}

func counter(counters map[string]*Counter, name string) *Counter {
	if c, ok := counters[name]; ok {
		return c
	}
	return counters[other]
}

// Gauges declares the values that are read at each scrape. A time that is zero
// means that there has been none.
func (o *Observer) Gauges(version string, tokenExpiry, keysFetched func() time.Time) {
	o.Metrics.Gauge(prefix+"token_expiry_timestamp_seconds", "When the iTwin token expires; 0 if there has been none.",
		func() float64 { return seconds(tokenExpiry()) })
	o.Metrics.Gauge(prefix+"keys_age_seconds", "Time since the Auth0 keys in use were fetched.", func() float64 {
		if fetched := keysFetched(); !fetched.IsZero() {
			return time.Since(fetched).Seconds()
		}
		return math.NaN()
	})
	o.Metrics.Gauge(prefix+"build_info", "The build; always 1.", func() float64 { return 1 },
		"version", version, "commit", Commit(), "go_version", runtime.Version())
	started := seconds(time.Now())
	o.Metrics.Gauge("process_start_time_seconds", "When the process started.", func() float64 { return started })
}

// Commit returns the commit that the program was built from, if Go knows it.
func Commit() string {
	info, _ := debug.ReadBuildInfo() // present in every build with modules
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "unknown"
}

// CertificateExpiry declares when the TLS certificate in use expires.
func (o *Observer) CertificateExpiry(expiry func() time.Time) {
	o.Metrics.Gauge(prefix+"tls_certificate_expiry_timestamp_seconds", "When the TLS certificate in use expires.",
		func() float64 { return seconds(expiry()) })
}

// seconds is Unix time; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
