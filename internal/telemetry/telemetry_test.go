package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/upstream"
)

// observe returns an observer, and a function that returns its new log lines
// without their times.
func observe(level slog.Level) (*Observer, func() string) {
	var b bytes.Buffer
	o := New(NewLog(&b, "text", level), map[string]int{"ok": 200, "expired": 401, "itwin_slow": 504, "no_keys": 503})
	o.TokenExpiry = func() time.Time { return time.Time{} }
	o.KeysFetched = o.TokenExpiry
	return o, func() (lines string) {
		for line := range strings.Lines(b.String()) {
			_, rest, _ := strings.Cut(line, " ")
			lines += rest
		}
		b.Reset()
		return lines
	}
}

func wantSeries(t *testing.T, o *Observer, lines ...string) {
	t.Helper()
	text := scrape(o)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+prefix+line+"\n") {
			t.Errorf("want the series %s%s in\n%s", prefix, line, text)
		}
	}
}

func TestRequest(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx     context.Context
		request Request
		series  string
		line    string
	}{
		{t.Context(), Request{200, "ok", 412 * time.Microsecond, "auth0|65a1f0", "1a2b3c4d5e6f"},
			`{status="200",reason="ok"}`, "level=INFO msg=getToken status=200 ms=0.412 sub=auth0|65a1f0 token=1a2b3c4d5e6f\n"},
		{t.Context(), Request{200, "ok", 1234567, "", "1a2b3c4d5e6f"},
			`{status="200",reason="ok"}`, "level=INFO msg=getToken status=200 ms=1.235 token=1a2b3c4d5e6f\n"},
		{t.Context(), Request{401, "expired", 100, "", ""},
			`{status="401",reason="expired"}`, "level=INFO msg=getToken status=401 ms=0 reason=expired\n"},
		{t.Context(), Request{503, "no_keys", 10 * time.Second, "", ""},
			`{status="503",reason="no_keys"}`, "level=WARN msg=getToken status=503 ms=10000 reason=no_keys\n"},
		{gone, Request{504, "itwin_slow", 3*time.Second + 500_000, "auth0|65a1f0", ""},
			`{status="504",reason="itwin_slow"}`, "level=INFO msg=getToken status=504 ms=3000.5 reason=itwin_slow sub=auth0|65a1f0\n"},
		{t.Context(), Request{418, "unforeseen", 100, "", ""},
			`{status="500",reason="other"}`, "level=INFO msg=getToken status=418 ms=0 reason=unforeseen\n"},
	} {
		o, logged := observe(slog.LevelInfo)
		o.Request(test.ctx, test.request)
		if got := logged(); got != test.line {
			t.Errorf("logged %q, want %q", got, test.line)
		}
		wantSeries(t, o, "requests_total"+test.series+" 1", "request_duration_seconds_count 1")
	}
}

func TestFetches(t *testing.T) {
	o, logged := observe(slog.LevelDebug)
	keys := o.Fetches("Auth0 keys", "key_fetches_total", "key_fetch_duration_seconds")
	grants := o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")
	kind := func(kind upstream.Kind) error { return &upstream.Error{Kind: kind, Text: "ims.test: " + string(kind)} }
	for _, step := range []struct {
		err  error
		line string
	}{
		{kind(upstream.Refused), `level=WARN msg="cannot fetch iTwin token" error="ims.test: refused" ms=250`},
		{nil, `level=INFO msg="got iTwin token" ms=250`},
		{nil, `level=DEBUG msg="renewed iTwin token" ms=250`},
		{kind(upstream.Throttled), `level=WARN msg="cannot fetch iTwin token" error="ims.test: throttled" ms=250`},
		{kind("unforeseen"), `level=WARN msg="cannot fetch iTwin token" error="ims.test: unforeseen" ms=250`},
		{kind(upstream.Nonsense), `level=WARN msg="cannot fetch iTwin token" error="ims.test: nonsense" ms=250`},
		{kind(upstream.Slow), `level=WARN msg="cannot fetch iTwin token" error="ims.test: slow" ms=250`},
		{fmt.Errorf("wrapped: %w", kind(upstream.Unreachable)), `level=WARN msg="cannot fetch iTwin token" error="wrapped: ims.test: unreachable" ms=250`},
		{errors.New("want a file that holds the client secret"), `level=WARN msg="cannot fetch iTwin token" error="want a file that holds the client secret" ms=250`},
		{nil, `level=INFO msg="got iTwin token" ms=250`}, // the end of an outage
	} {
		grants(250*time.Millisecond, step.err)
		if got := logged(); got != step.line+"\n" {
			t.Errorf("logged %q, want %q", got, step.line)
		}
	}
	keys(time.Second, nil) // counted apart
	if got, want := logged(), "level=INFO msg=\"got Auth0 keys\" ms=1000\n"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	wantSeries(t, o,
		`grants_total{result="ok"} 3`, `grants_total{result="refused"} 1`, `grants_total{result="nonsense"} 1`,
		`grants_total{result="unreachable"} 1`, `grants_total{result="slow"} 1`, `grants_total{result="secret"} 1`,
		`grants_total{result="throttled"} 1`, `grants_total{result="other"} 1`,
		`grant_duration_seconds_bucket{le="0.1"} 0`, `grant_duration_seconds_bucket{le="0.25"} 10`,
		"grant_duration_seconds_sum 2.5", `key_fetches_total{result="ok"} 1`, "key_fetch_duration_seconds_sum 1",
	)
}
