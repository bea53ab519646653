package telemetry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/upstream"
)

var outcomes = map[string]int{"ok": 200, "expired": 401, "itwin_slow": 504, "no_keys": 503}

// watch makes an observer, and what it logs without the time.
func watch(level slog.Level) (*Observer, func() string) {
	var b bytes.Buffer
	return New(NewLog(&b, "text", level), outcomes), func() string {
		var all strings.Builder
		for line := range strings.Lines(b.String()) {
			_, rest, _ := strings.Cut(line, " ")
			all.WriteString(rest)
		}
		b.Reset()
		return all.String()
	}
}

func scrape(o *Observer) string {
	w := httptest.NewRecorder()
	o.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func wantSeries(t *testing.T, o *Observer, lines ...string) {
	t.Helper()
	text := scrape(o)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+Metric+line+"\n") {
			t.Errorf("want the series %s%s in\n%s", Metric, line, text)
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
		{504, "itwin_slow", "auth0|65a1f0", "", 3*time.Second + 500_000, "level=WARN msg=getToken status=504 ms=3000.5 reason=itwin_slow sub=auth0|65a1f0\n"},
	} {
		o, logged := watch(slog.LevelInfo)
		o.Request(t.Context(), test.status, test.reason, test.took, test.subject, test.fingerprint)
		if got := logged(); got != test.line {
			t.Errorf("logged %q, want %q", got, test.line)
		}
		for reason, status := range outcomes {
			n := 0
			if reason == test.reason {
				n = 1
			}
			wantSeries(t, o, fmt.Sprintf(`requests_total{status="%d",reason="%s"} %d`, status, reason, n))
		}
		wantSeries(t, o, "request_duration_seconds_count 1", `request_duration_seconds_bucket{le="+Inf"} 1`)
	}
}

func TestFetches(t *testing.T) {
	o, logged := watch(slog.LevelDebug)
	report := o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")
	kind := func(kind upstream.Kind) error { return upstream.Errorf(kind, "ims.test: %s", kind) }
	for _, step := range []struct {
		err          error
		result, line string
	}{
		{kind(upstream.Refused), "refused", `level=WARN msg="no iTwin token" error="ims.test: refused" ms=250`},
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`},
		{nil, "ok", `level=DEBUG msg="renewed iTwin token" ms=250`},
		{kind(upstream.Nonsense), "nonsense", `level=WARN msg="no iTwin token" error="ims.test: nonsense" ms=250`},
		{kind(upstream.Slow), "slow", `level=WARN msg="no iTwin token" error="ims.test: slow" ms=250`},
		{fmt.Errorf("wrapped: %w", kind(upstream.Unreachable)), "unreachable", `level=WARN msg="no iTwin token" error="wrapped: ims.test: unreachable" ms=250`},
		{errors.New("want a file that holds the client secret"), "secret", `level=WARN msg="no iTwin token" error="want a file that holds the client secret" ms=250`},
		{context.Canceled, "secret", `level=WARN msg="no iTwin token" error="context canceled" ms=250`},
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`}, // the end of an outage is news
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
		`grant_duration_seconds_bucket{le="0.1"} 0`, `grant_duration_seconds_bucket{le="0.25"} 10`,
		"grant_duration_seconds_sum 2.5", "grant_duration_seconds_count 10",
	)
}

func TestTwoKindsOfFetchesAreCountedApart(t *testing.T) {
	o, logged := watch(slog.LevelInfo)
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
		o, _ := watch(slog.LevelInfo)
		var expires, fetched, ends time.Time
		o.Gauges("v1.2.3", "abcdef", func() time.Time { return expires }, func() time.Time { return fetched })
		o.CertificateExpiry(func() time.Time { return ends })
		time.Sleep(time.Minute)
		wantSeries(t, o, "token_expiry_timestamp_seconds 0", fmt.Sprintf(`build_info{version="v1.2.3",commit="abcdef",go_version="%s"} 1`, runtime.Version()))
		text := scrape(o)
		for _, absent := range []string{"keys_age_seconds ", "tls_certificate_expiry_timestamp_seconds "} {
			if strings.Contains(text, "\n"+Metric+absent) {
				t.Errorf("want no series %s%s before there is one, in\n%s", Metric, absent, text)
			}
		}
		if !strings.Contains(text, "\nprocess_start_time_seconds 9.466848e+08\n") {
			t.Errorf("want process_start_time_seconds 9.466848e+08 in\n%s", text)
		}
		fetched = time.Now()
		expires, ends = fetched.Add(time.Hour), fetched.Add(24*time.Hour)
		time.Sleep(90 * time.Second)
		wantSeries(t, o, "keys_age_seconds 90", "token_expiry_timestamp_seconds 9.4668846e+08", "tls_certificate_expiry_timestamp_seconds 9.4677126e+08")
	})
}

func TestCertificate(t *testing.T) {
	o, logged := watch(slog.LevelDebug)
	o.Certificate(time.Second, nil)
	o.Certificate(time.Second, errors.New("tls.crt: want whole certificates, got 1 of 2"))
	const want = `level=ERROR msg="the TLS certificate cannot be used; the one before serves on, if there is one" error="tls.crt: want whole certificates, got 1 of 2"` + "\n"
	if got := logged(); got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}
