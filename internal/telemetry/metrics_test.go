package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scrape returns the metrics.
func scrape(t *testing.T, o *Observer) string {
	t.Helper()
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	const want = "text/plain; version=0.0.4; charset=utf-8"
	if got := w.Header().Get("Content-Type"); got != want || w.Code != 200 {
		t.Errorf("status %d, Content-Type %s; want 200, %s", w.Code, got, want)
	}
	return w.Body.String()
}

func wantSeries(t *testing.T, o *Observer, lines ...string) {
	t.Helper()
	text := scrape(t, o)
	for _, line := range lines {
		if !strings.Contains(text, "\n"+prefix+line+"\n") {
			t.Errorf("want the series %s%s in\n%s", prefix, line, text)
		}
	}
}

// The page without the prefix: what alerts and dashboards depend on. The fetches, which
// look like the requests, are left out.
func TestExposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 946684800, 2000-01-01
		o := newObserver(io.Discard, slog.LevelInfo)
		for _, ms := range []time.Duration{1, 2, 60_000} {
			o.Request(t.Context(), Request{Status: 200, Reason: "ok", Duration: ms * time.Millisecond})
		}
		time.Sleep(time.Minute)
		want := `# HELP requests_total Requests to /getToken, by status and reason.
# TYPE requests_total counter
requests_total{status="401",reason="expired"} 0
requests_total{status="504",reason="itwin_slow"} 0
requests_total{status="503",reason="no_keys"} 0
requests_total{status="200",reason="ok"} 3
requests_total{status="500",reason="other"} 0
# HELP request_duration_seconds Time from a request's header to its answer.
# TYPE request_duration_seconds histogram
BUCKETS
request_duration_seconds_sum 60.003
request_duration_seconds_count 3
# HELP log_lines_lost_total Lines of requests that could not be logged.
# TYPE log_lines_lost_total counter
log_lines_lost_total 0
# HELP token_expiry_timestamp_seconds When the iTwin token expires; 0 if there has been none.
# TYPE token_expiry_timestamp_seconds gauge
token_expiry_timestamp_seconds 0
# HELP build_info The build; always 1.
# TYPE build_info gauge
build_info{version="v1.0 \"x\" \\",commit="COMMIT",go_version="GO"} 1
# HELP process_start_time_seconds When the process started.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 946684800
`
		var buckets string // each holds what is at most its bound
		counts := []int{0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3}
		for i, bound := range strings.Fields("0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 " +
			"0.05 0.1 0.5 1 2.5 5 10 +Inf") {
			buckets += fmt.Sprintf("request_duration_seconds_bucket{le=%q} %d\n", bound, counts[i])
		}
		want = strings.NewReplacer("BUCKETS\n", buckets, "COMMIT", Commit(), "GO",
			runtime.Version()).Replace(want)
		var got strings.Builder
		for line := range strings.Lines(scrape(t, o)) {
			if !strings.Contains(line, "key_fetch") && !strings.Contains(line, "grant") {
				got.WriteString(strings.ReplaceAll(line, prefix, ""))
			}
		}
		if got.String() != want {
			t.Errorf("got\n%s\nwant\n%s", got.String(), want)
		}

		now := time.Now()
		o.KeysFetched = func() time.Time { return now.Add(-90 * time.Second) }
		o.TokenExpiry = func() time.Time { return now.Add(time.Hour + time.Second/2) }
		o.CertificateExpiry = func() time.Time { return now.Add(24 * time.Hour) }
		wantSeries(t, o, "keys_age_seconds 90", "token_expiry_timestamp_seconds 946688460.5",
			"tls_certificate_expiry_timestamp_seconds 946771260")
	})
}

func TestConcurrentUse(t *testing.T) {
	o := newObserver(io.Discard, slog.LevelError)
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			took := time.Duration(i) * time.Millisecond
			for range 1000 {
				o.Request(t.Context(), Request{Status: 401, Reason: "expired", Duration: took})
			}
			scrape(t, o)
		})
	}
	users.Wait()
	wantSeries(t, o, `requests_total{status="401",reason="expired"} 8000`,
		`request_duration_seconds_bucket{le="0.001"} 2000`,
		"request_duration_seconds_sum 28", "request_duration_seconds_count 8000")
}
