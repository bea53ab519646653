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

// wantSeries wants lines in the metrics.
func wantSeries(t *testing.T, o *Observer, lines ...string) {
	t.Helper()
	w := httptest.NewRecorder()
	o.ServeHTTP(w, nil)
	for _, line := range lines {
		if !strings.Contains(w.Body.String(), "\n"+prefix+line+"\n") {
			t.Errorf("want the series %s%s in\n%s", prefix, line, w.Body)
		}
	}
}

// The names are what alerts and dashboards depend on.
const types = `requests_total counter
request_duration_seconds histogram
key_fetches_total counter
key_fetch_duration_seconds histogram
grants_total counter
grant_duration_seconds histogram
log_lines_lost_total counter
token_expiry_timestamp_seconds gauge
keys_age_seconds gauge
tls_certificate_expiry_timestamp_seconds gauge
build_info gauge
process_start_time_seconds gauge
`

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 946684800, 2000-01-01
		o := newObserver(io.Discard, slog.LevelInfo)
		var callers sync.WaitGroup
		for _, ms := range []time.Duration{1, 2, 60_000} {
			callers.Go(func() {
				o.Request(t.Context(), Request{Status: 200, Reason: "ok", Duration: ms * time.Millisecond})
			})
		}
		callers.Wait()
		wantSeries(t, o, `requests_total{status="200",reason="ok"} 3`,
			`requests_total{status="401",reason="expired"} 0`,
			`request_duration_seconds_bucket{le="0.001"} 1`, // what is at most its bound
			`request_duration_seconds_bucket{le="10"} 2`,
			`request_duration_seconds_bucket{le="+Inf"} 3`,
			"request_duration_seconds_sum 60.003", "request_duration_seconds_count 3",
			"token_expiry_timestamp_seconds 0",
			fmt.Sprintf(`build_info{version="v1.0 \"x\" \\",commit=%q,go_version=%q} 1`,
				Commit(), runtime.Version()))

		now := time.Now()
		o.KeysFetched = func() time.Time { return now.Add(-90 * time.Second) }
		o.TokenExpiry = func() time.Time { return now.Add(time.Hour + time.Second/2) }
		o.CertificateExpiry = func() time.Time { return now.Add(24 * time.Hour) }
		wantSeries(t, o, "keys_age_seconds 90", "token_expiry_timestamp_seconds 946688400.5",
			"tls_certificate_expiry_timestamp_seconds 946771200")

		time.Sleep(time.Minute) // nothing has changed since the start
		w, got := httptest.NewRecorder(), ""
		o.ServeHTTP(w, nil)
		for line := range strings.Lines(w.Body.String()) {
			if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
				got += strings.TrimPrefix(name, prefix)
			}
		}
		format := w.Header().Get("Content-Type")
		if got != types || format != "text/plain; version=0.0.4; charset=utf-8" ||
			!strings.Contains(w.Body.String(), "\nprocess_start_time_seconds 946684800\n") {
			t.Errorf("got %s with the metrics\n%s\nwant\n%s\n%s", format, got, types, w.Body)
		}
	})
}
