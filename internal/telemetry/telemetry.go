// Package telemetry records what the server does in its log and its metrics: one
// line and one count for each request, grant and key fetch.
package telemetry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/upstream"
)

// maxText bounds a caller's text in the log, in bytes.
const maxText = 128

// NewLog returns a logger that writes to w in the format "text" or "json".
func NewLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// Subject returns a token's sub as the log may show it: as a hash if it contains
// the user's e-mail address, as with some connections of Auth0; otherwise at most
// 128 bytes of it, escaped as in a Go string, so that it cannot end the line or control
// a terminal. The handlers of slog don't escape all of that: JSON keeps the control
// characters above ASCII.
func Subject(sub string) string {
	if strings.Contains(sub, "@") {
		return fmt.Sprintf("sha256:%.6x", sha256.Sum256([]byte(sub))) // its first 6 bytes
	}
	quoted := strconv.QuoteToASCII(sub[:min(len(sub), maxText)])
	return quoted[1 : len(quoted)-1]
}

// Config is what an [Observer] needs. A time that is zero means that there has been none.
type Config struct {
	Log               *slog.Logger
	Version           string           // of the program
	Statuses          map[string]int   // the reasons with which requests end, and their statuses
	TokenExpiry       func() time.Time // when the iTwin token expires
	KeysFetched       func() time.Time // when the Auth0 keys in use were fetched
	CertificateExpiry func() time.Time // when the TLS certificate in use expires; nil without TLS
}

// An Observer records requests and fetches, and serves the metrics.
type Observer struct {
	Config
	started  time.Time
	requests *events
	keys     *fetches
	grants   *fetches
	lost     atomic.Uint64 // lines of requests that could not be written
}

// fetches are the fetches of one kind, which one goroutine makes.
type fetches struct {
	events
	what    string
	healthy bool // the last one succeeded
}

// New returns an observer. A request with a reason that is not in config.Statuses is
// counted under "other".
func New(config Config) *Observer {
	reasons := map[string]*result{other: {labels: `status="500",reason="other"`}}
	for reason, status := range config.Statuses {
		reasons[reason] = &result{labels: fmt.Sprintf(`status="%d",reason=%q`, status, reason)}
	}
	return &Observer{
		Config:  config,
		started: time.Now(),
		requests: &events{
			total:        prefix + "requests_total",
			totalHelp:    "Requests to /getToken, by status and reason.",
			results:      reasons,
			duration:     prefix + "request_duration_seconds",
			durationHelp: "Time from a request's header to its answer.",
		},
		keys:   newFetches("Auth0 keys", "key_fetches_total", "key_fetch_duration_seconds"),
		grants: newFetches("iTwin token", "grants_total", "grant_duration_seconds", noSecret),
	}
}

// noSecret is the result of a grant whose secret could not be read.
const noSecret upstream.Kind = "secret"

// newFetches returns fetches with the results that all kinds have, and their own ones.
func newFetches(what, total, duration string, own ...upstream.Kind) *fetches {
	results := make(map[string]*result)
	for _, kind := range append(own,
		"ok", upstream.Refused, upstream.Throttled, upstream.Nonsense,
		upstream.Unreachable, upstream.Slow, other,
	) {
		results[string(kind)] = &result{labels: fmt.Sprintf("result=%q", kind)}
	}
	return &fetches{what: what, events: events{
		total:        prefix + total,
		totalHelp:    what + " fetches, by result.",
		results:      results,
		duration:     prefix + duration,
		durationHelp: "Duration of " + what + " fetches.",
	}}
}

// A Request is what is recorded of a request to /getToken.
type Request struct {
	Status   int
	Reason   string // one of a fixed set of words
	Duration time.Duration
	Subject  string // of the verified user token, as [Subject] returns it
	Token    string // the fingerprint of the iTwin token in the answer
}

// Request records a request: a line at info, or at warn for a server error, unless the
// caller has disconnected.
func (o *Observer) Request(ctx context.Context, r Request) {
	o.requests.record(r.Reason, r.Duration)
	level := slog.LevelInfo
	if r.Status >= 500 && ctx.Err() == nil {
		level = slog.LevelWarn
	}
	if !o.Log.Enabled(ctx, level) {
		return
	}
	if r.Status == http.StatusOK {
		r.Reason = "" // the status says it
	}
	// Not o.Log.Info, which looks up the caller's line of code.
	line := slog.NewRecord(time.Now(), level, "getToken", 0)
	line.AddAttrs(slog.Int("status", r.Status), milliseconds(r.Duration),
		optional("reason", r.Reason), optional("sub", r.Subject), optional("token", r.Token))
	if o.Log.Handler().Handle(ctx, line) != nil {
		o.lost.Add(1)
	}
}

// optional is a text in the log, left out if it is empty.
func optional(key, value string) slog.Attr {
	if value == "" {
		return slog.Attr{}
	}
	return slog.String(key, value)
}

// milliseconds is a duration in the log, to the microsecond.
func milliseconds(d time.Duration) slog.Attr {
	return slog.Float64("ms", math.Round(d.Seconds()*1e6)/1e3)
}

// KeyFetch records a fetch of Auth0's keys.
func (o *Observer) KeyFetch(took time.Duration, err error) { o.fetch(o.keys, took, err) }

// Grant records a grant.
func (o *Observer) Grant(took time.Duration, err error) { o.fetch(o.grants, took, err) }

// fetch counts a fetch. It logs a failure at warn; a success at info if it is the first
// one, or the first one after a failure.
func (o *Observer) fetch(f *fetches, took time.Duration, err error) {
	ms := milliseconds(took)
	switch {
	case err != nil:
		o.Log.Warn("cannot fetch "+f.what, "error", err, ms)
	case !f.healthy:
		o.Log.Info("got "+f.what, ms)
	default:
		o.Log.Debug("renewed "+f.what, ms)
	}
	f.healthy = err == nil
	f.record(resultOf(err), took)
}

// resultOf returns the result of a fetch. An error that is not package upstream's is of
// the secret's file, which only grants read.
func resultOf(err error) string {
	if err == nil {
		return "ok"
	}
	if failed, ok := errors.AsType[*upstream.Error](err); ok {
		return string(failed.Kind)
	}
	return string(noSecret)
}

// ServeHTTP answers a scrape with Prometheus text (exposition format 0.0.4).
func (o *Observer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	o.requests.write(w)
	o.keys.write(w)
	o.grants.write(w)
	metric(w, "counter", prefix+"log_lines_lost_total", "",
		"Lines of requests that could not be logged.", float64(o.lost.Load()))
	metric(w, "gauge", prefix+"token_expiry_timestamp_seconds", "",
		"When the iTwin token expires; 0 if there has been none.", unix(o.TokenExpiry()))
	if fetched := o.KeysFetched(); !fetched.IsZero() {
		metric(w, "gauge", prefix+"keys_age_seconds", "",
			"Time since the Auth0 keys in use were fetched.", time.Since(fetched).Seconds())
	}
	if o.CertificateExpiry != nil {
		metric(w, "gauge", prefix+"tls_certificate_expiry_timestamp_seconds", "",
			"When the TLS certificate in use expires.", unix(o.CertificateExpiry()))
	}
	// Go and Prometheus quote printable text alike.
	build := fmt.Sprintf("{version=%q,commit=%q,go_version=%q}",
		o.Version, Commit(), runtime.Version())
	metric(w, "gauge", prefix+"build_info", build, "The build; always 1.", 1)
	metric(w, "gauge", "process_start_time_seconds", "",
		"When the process started.", unix(o.started))
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
