// Package telemetry records what the server does in its log and its metrics: one
// line and one count for each request, grant and key fetch.
package telemetry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
// 128 bytes of it in printable ASCII, so that it cannot end the line or control a
// terminal. The handlers of slog don't escape all of that: JSON keeps the control
// characters above ASCII.
func Subject(sub string) string {
	if strings.Contains(sub, "@") {
		sum := sha256.Sum256([]byte(sub))
		return "sha256:" + hex.EncodeToString(sum[:6])
	}
	sub = sub[:min(len(sub), maxText)]
	if strings.ContainsFunc(sub, func(r rune) bool { return r < ' ' || r > '~' }) {
		return strconv.QuoteToASCII(sub)
	}
	return sub
}

// An Observer records requests and fetches, and serves the metrics. Its fields are
// set before the first scrape; a time that is zero means that there has been none.
type Observer struct {
	Version           string
	TokenExpiry       func() time.Time // when the iTwin token expires
	KeysFetched       func() time.Time // when the Auth0 keys in use were fetched
	CertificateExpiry func() time.Time // when the TLS certificate in use expires; nil without TLS

	log      *slog.Logger
	started  time.Time
	requests *events
	all      []*events // the requests, and each kind of fetch
}

// New returns an observer of requests that end with one of the given reasons, each
// with its status. Any other reason is counted as "other".
func New(log *slog.Logger, statuses map[string]int) *Observer {
	o := &Observer{log: log, started: time.Now()}
	o.requests = newEvents("requests_total", "Requests to /getToken, by status and reason.",
		"request_duration_seconds", "Time from a request's header to its answer.",
		.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1, 2.5, 5, 10) // a request takes microseconds, or waits for a fetch
	o.all = []*events{o.requests}
	o.requests.declare(other, `status="500",reason="other"`)
	for reason, status := range statuses {
		o.requests.declare(reason, `status="%d",reason=%q`, status, reason)
	}
	return o
}

// A Request is what is recorded of a request to /getToken.
type Request struct {
	Status   int
	Reason   string // one of a fixed set of words
	Duration time.Duration
	Subject  string // of the verified user token, as [Subject] returns it
	Token    string // the fingerprint of the iTwin token in the answer
}

// Request records a request: a line at info, or at warn for a server error, unless
// the caller has disconnected.
func (o *Observer) Request(ctx context.Context, r Request) {
	o.requests.record(r.Reason, r.Duration)
	level := slog.LevelInfo
	if r.Status >= 500 && ctx.Err() == nil {
		level = slog.LevelWarn
	}
	if !o.log.Enabled(ctx, level) {
		return
	}
	line := slog.NewRecord(time.Now(), level, "getToken", 0) // without looking up the caller's line of code
	line.AddAttrs(slog.Int("status", r.Status), slog.Float64("ms", math.Round(r.Duration.Seconds()*1e6)/1e3))
	if r.Status != 200 {
		line.AddAttrs(slog.String("reason", r.Reason))
	}
	if r.Subject != "" {
		line.AddAttrs(slog.String("sub", r.Subject))
	}
	if r.Token != "" {
		line.AddAttrs(slog.String("token", r.Token))
	}
	o.log.Handler().Handle(ctx, line)
}

// Fetches returns the function to call after each fetch of one kind. It counts
// them under the two names, and logs failures, the first success, and the success
// that ends an outage.
func (o *Observer) Fetches(what, total, duration string) func(time.Duration, error) {
	const notSent = "secret" // there was no secret to send
	e := newEvents(total, what+" fetches, by result.", duration, "Duration of "+what+" fetches.",
		.05, .1, .25, .5, 1, 2.5, 5, 10) // a fetch crosses the internet, and ends after 10 s
	o.all = append(o.all, e)
	for _, kind := range []upstream.Kind{
		"ok", upstream.Refused, upstream.Throttled, upstream.Nonsense, upstream.Unreachable, upstream.Slow, notSent, other,
	} {
		e.declare(string(kind), `result=%q`, kind)
	}
	healthy := false
	return func(took time.Duration, err error) {
		result, ms := "ok", slog.Int64("ms", took.Milliseconds())
		switch {
		case err != nil:
			result = notSent
			if failed, ok := errors.AsType[*upstream.Error](err); ok {
				result = string(failed.Kind)
			}
			o.log.Warn("cannot fetch "+what, "error", err, ms)
		case !healthy:
			o.log.Info("got "+what, ms)
		default:
			o.log.Debug("renewed "+what, ms)
		}
		healthy = err == nil
		e.record(result, took)
	}
}

// ServeHTTP answers a scrape with Prometheus text (exposition format 0.0.4).
func (o *Observer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	for _, e := range o.all {
		e.write(&b)
	}
	gauge(&b, prefix+"token_expiry_timestamp_seconds", "", "When the iTwin token expires; 0 if there has been none.",
		seconds(o.TokenExpiry()))
	age := math.NaN()
	if fetched := o.KeysFetched(); !fetched.IsZero() {
		age = time.Since(fetched).Seconds()
	}
	gauge(&b, prefix+"keys_age_seconds", "", "Time since the Auth0 keys in use were fetched.", age)
	build := fmt.Sprintf("{version=%q,commit=%q,go_version=%q}", o.Version, Commit(), runtime.Version())
	gauge(&b, prefix+"build_info", build, "The build; always 1.", 1)
	gauge(&b, "process_start_time_seconds", "", "When the process started.", seconds(o.started))
	if o.CertificateExpiry != nil {
		gauge(&b, prefix+"tls_certificate_expiry_timestamp_seconds", "", "When the TLS certificate in use expires.",
			seconds(o.CertificateExpiry()))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(b.Bytes())
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
