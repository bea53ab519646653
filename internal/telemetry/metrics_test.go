package telemetry

import (
	"fmt"
	"log/slog"
	"math"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func scrape(o *Observer) string {
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" || w.Code != 200 {
		return fmt.Sprintf("status %d, Content-Type %s", w.Code, got)
	}
	return w.Body.String()
}

// The whole page, without the prefix: what alerts and dashboards depend on.
func TestExposition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which begins at 946684800, 2000-01-01
		o, _ := observe(slog.LevelInfo)
		o.Version = `v1.0 "x" \`
		o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")
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
` + buckets("request", "0.0001 0 0.00025 0 0.0005 0 0.001 1 0.0025 2 0.005 2 0.01 2 0.05 2 0.1 2 0.5 2 1 2 2.5 2 5 2 10 2 +Inf 3") +
			`request_duration_seconds_sum 60.003
request_duration_seconds_count 3
# HELP grants_total iTwin token fetches, by result.
# TYPE grants_total counter
grants_total{result="nonsense"} 0
grants_total{result="ok"} 0
grants_total{result="other"} 0
grants_total{result="refused"} 0
grants_total{result="secret"} 0
grants_total{result="slow"} 0
grants_total{result="throttled"} 0
grants_total{result="unreachable"} 0
# HELP grant_duration_seconds Duration of iTwin token fetches.
# TYPE grant_duration_seconds histogram
` + buckets("grant", "0.05 0 0.1 0 0.25 0 0.5 0 1 0 2.5 0 5 0 10 0 +Inf 0") +
			`grant_duration_seconds_sum 0
grant_duration_seconds_count 0
# HELP token_expiry_timestamp_seconds When the iTwin token expires; 0 if there has been none.
# TYPE token_expiry_timestamp_seconds gauge
token_expiry_timestamp_seconds 0
# HELP keys_age_seconds Time since the Auth0 keys in use were fetched.
# TYPE keys_age_seconds gauge
# HELP build_info The build; always 1.
# TYPE build_info gauge
build_info{version="v1.0 \"x\" \\",commit="` + Commit() + `",go_version="` + runtime.Version() + `"} 1
# HELP process_start_time_seconds When the process started.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 946684800
`
		if got := strings.ReplaceAll(scrape(o), prefix, ""); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}

		now := time.Now()
		o.KeysFetched = func() time.Time { return now.Add(-90 * time.Second) }
		o.TokenExpiry = func() time.Time { return now.Add(time.Hour + time.Second/2) }
		o.CertificateExpiry = func() time.Time { return now.Add(24 * time.Hour) }
		wantSeries(t, o, "keys_age_seconds 90", "token_expiry_timestamp_seconds 946688460.5",
			"tls_certificate_expiry_timestamp_seconds 946771260")
	})
}

// buckets are the series of a histogram; the text has bounds and counts in turn.
func buckets(of, text string) (lines string) {
	words := strings.Fields(text)
	for i := 0; i < len(words); i += 2 {
		lines += fmt.Sprintf("%s_duration_seconds_bucket{le=%q} %s\n", of, words[i], words[i+1])
	}
	return lines
}

// A bucket holds what is at most its bound.
func TestBucketEdges(t *testing.T) {
	bounds := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10}
	for i, bound := range bounds {
		edge := time.Duration(math.Round(bound * 1e9))
		for took, bucket := range map[time.Duration]int{edge - 1: i, edge: i, edge + 1: i + 1, -edge: 0} { // a clock can be set back
			e := newEvents("n", "", "h", "", bounds...)
			e.declare("ok", "")
			e.record("ok", took)
			if e.buckets[bucket].Load() != 1 || e.sum.Load() != int64(took) {
				t.Errorf("%v is not in bucket %d: %v, sum %v", took, bucket, &e.buckets, &e.sum)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	o, _ := observe(slog.LevelError)
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for range 1000 {
				o.Request(t.Context(), Request{Status: 401, Reason: "expired", Duration: time.Duration(i) * time.Millisecond})
			}
			scrape(o)
		})
	}
	users.Wait()
	wantSeries(t, o, `requests_total{status="401",reason="expired"} 8000`, `request_duration_seconds_bucket{le="0.001"} 2000`,
		"request_duration_seconds_sum 28", "request_duration_seconds_count 8000")
}
