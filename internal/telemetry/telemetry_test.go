package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/upstream"
)

func outcomes() []Outcome {
	return []Outcome{{200, "ok"}, {401, "expired"}, {504, "itwin_slow"}, {503, "no_keys"}}
}

// observe returns an observer, and a function that returns its new log lines
// without their times.
func observe(level slog.Level) (*Observer, func() string) {
	var b bytes.Buffer
	return New(NewLog(&b, "text", level), outcomes()...), func() string {
		var all strings.Builder
		for line := range strings.Lines(b.String()) {
			_, rest, _ := strings.Cut(line, " ")
			all.WriteString(rest)
		}
		b.Reset()
		return all.String()
	}
}

func wantSeries(t *testing.T, o *Observer, lines ...string) {
	t.Helper()
	text := scrape(&o.Metrics)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+prefix+line+"\n") {
			t.Errorf("want the series %s%s in\n%s", prefix, line, text)
		}
	}
}

func TestRequest(t *testing.T) {
	for _, test := range []struct {
		status                       int
		reason, subject, fingerprint string
		took                         time.Duration
		line                         string
	}{
		{200, "ok", "auth0|65a1f0", "1a2b3c4d5e6f", 412 * time.Microsecond, "level=INFO msg=getToken status=200 ms=0.412 sub=auth0|65a1f0 token=1a2b3c4d5e6f\n"},
		{200, "ok", "", "1a2b3c4d5e6f", 1234567, "level=INFO msg=getToken status=200 ms=1.235 token=1a2b3c4d5e6f\n"},
		{401, "expired", "", "", 100, "level=INFO msg=getToken status=401 ms=0 reason=expired\n"},
		{503, "no_keys", "", "", 10 * time.Second, "level=WARN msg=getToken status=503 ms=10000 reason=no_keys\n"},
		{418, "unforeseen", "", "", 100, "level=INFO msg=getToken status=418 ms=0 reason=unforeseen\n"},
		{504, "itwin_slow", "auth0|65a1f0", "", 3*time.Second + 500_000, "level=WARN msg=getToken status=504 ms=3000.5 reason=itwin_slow sub=auth0|65a1f0\n"},
	} {
		o, logged := observe(slog.LevelInfo)
		o.Request(t.Context(), Request{test.status, test.reason, test.took, test.subject, test.fingerprint})
		if got := logged(); got != test.line {
			t.Errorf("logged %q, want %q", got, test.line)
		}
		for _, outcome := range append(outcomes(), Outcome{500, "other"}) {
			n := 0
			if outcome.Reason == test.reason || outcome.Reason == "other" && test.reason == "unforeseen" {
				n = 1
			}
			wantSeries(t, o, fmt.Sprintf(`requests_total{status="%d",reason="%s"} %d`, outcome.Status, outcome.Reason, n))
		}
		wantSeries(t, o, "request_duration_seconds_count 1", `request_duration_seconds_bucket{le="+Inf"} 1`)
	}
}

func TestFetches(t *testing.T) {
	o, logged := observe(slog.LevelDebug)
	report := o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")
	kind := func(kind upstream.Kind) error { return &upstream.Error{Kind: kind, Text: "ims.test: " + string(kind)} }
	for _, step := range []struct {
		err          error
		result, line string
	}{
		{kind(upstream.Refused), "refused", `level=WARN msg="no iTwin token" error="ims.test: refused" ms=250`},
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`},
		{nil, "ok", `level=DEBUG msg="renewed iTwin token" ms=250`},
		{kind(upstream.Throttled), "throttled", `level=WARN msg="no iTwin token" error="ims.test: throttled" ms=250`},
		{kind("unforeseen"), "other", `level=WARN msg="no iTwin token" error="ims.test: unforeseen" ms=250`},
		{kind(upstream.Nonsense), "nonsense", `level=WARN msg="no iTwin token" error="ims.test: nonsense" ms=250`},
		{kind(upstream.Slow), "slow", `level=WARN msg="no iTwin token" error="ims.test: slow" ms=250`},
		{fmt.Errorf("wrapped: %w", kind(upstream.Unreachable)), "unreachable", `level=WARN msg="no iTwin token" error="wrapped: ims.test: unreachable" ms=250`},
		{errors.New("want a file that holds the client secret"), "secret", `level=WARN msg="no iTwin token" error="want a file that holds the client secret" ms=250`},
		{context.Canceled, "secret", `level=WARN msg="no iTwin token" error="context canceled" ms=250`},
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`}, // the end of an outage
		{nil, "ok", `level=DEBUG msg="renewed iTwin token" ms=250`},
	} {
		report(250*time.Millisecond, step.err)
		if got := logged(); got != step.line+"\n" {
			t.Errorf("logged %q, want %q", got, step.line)
		}
	}
	wantSeries(t, o,
		`grants_total{result="ok"} 4`, `grants_total{result="refused"} 1`, `grants_total{result="nonsense"} 1`,
		`grants_total{result="unreachable"} 1`, `grants_total{result="slow"} 1`, `grants_total{result="secret"} 2`,
		`grants_total{result="throttled"} 1`, `grants_total{result="other"} 1`,
		`grant_duration_seconds_bucket{le="0.1"} 0`, `grant_duration_seconds_bucket{le="0.25"} 12`,
		"grant_duration_seconds_sum 3", "grant_duration_seconds_count 12",
	)
}

func TestTwoKindsOfFetchesAreCountedApart(t *testing.T) {
	o, logged := observe(slog.LevelInfo)
	keys := o.Fetches("Auth0 keys", "key_fetches_total", "key_fetch_duration_seconds")
	grants := o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")
	keys(time.Second, nil)
	grants(time.Second, nil)
	grants(time.Second, nil)
	if got, want := logged(), "level=INFO msg=\"got Auth0 keys\" ms=1000\nlevel=INFO msg=\"got iTwin token\" ms=1000\n"; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
	wantSeries(t, o, `key_fetches_total{result="ok"} 1`, `grants_total{result="ok"} 2`, "key_fetch_duration_seconds_count 1", "grant_duration_seconds_count 2")
}

func TestGauges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 946684800, 2000-01-01
		o, _ := observe(slog.LevelInfo)
		var expiry, fetched, certExpiry time.Time
		o.Gauges("v1.2.3", func() time.Time { return expiry }, func() time.Time { return fetched })
		o.CertificateExpiry(func() time.Time { return certExpiry })
		time.Sleep(time.Minute)
		wantSeries(t, o, "token_expiry_timestamp_seconds 0", fmt.Sprintf(`build_info{version="v1.2.3",commit="%s",go_version="%s"} 1`, Commit(), runtime.Version()))
		text := scrape(&o.Metrics)
		for _, absent := range []string{"keys_age_seconds "} {
			if strings.Contains(text, "\n"+prefix+absent) {
				t.Errorf("want no series %s%s before there is one, in\n%s", prefix, absent, text)
			}
		}
		if !strings.Contains(text, "\nprocess_start_time_seconds 9.466848e+08\n") {
			t.Errorf("want process_start_time_seconds 9.466848e+08 in\n%s", text)
		}
		fetched = time.Now()
		expiry, certExpiry = fetched.Add(time.Hour), fetched.Add(24*time.Hour)
		time.Sleep(90 * time.Second)
		wantSeries(t, o, "keys_age_seconds 90", "token_expiry_timestamp_seconds 9.4668846e+08", "tls_certificate_expiry_timestamp_seconds 9.4677126e+08")
	})
}
