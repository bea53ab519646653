package telemetry

import (
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func scrape(r *Registry) string {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestExposition(t *testing.T) {
	var r Registry
	ok := r.Counter("requests_total", "Requests, by status and reason.", "status", "200", "reason", "ok")
	r.Counter("requests_total", "Requests, by status and reason.", "status", "401", "reason", "expired")
	plain := r.Counter("grants_total", "Grants.")
	took := r.Histogram("duration_seconds", "Time.", .1, .25, 10)
	r.Gauge("expiry_timestamp_seconds", "When it ends.", func() float64 { return 1767225600.5 })
	r.Gauge("age_seconds", "Age.", math.NaN)
	r.Gauge("build_info", "The build.", func() float64 { return 1 }, "version", `v1.0 "x" \`, "commit", "")
	ok.Inc()
	ok.Inc()
	plain.Inc()
	took.Observe(100 * time.Millisecond)
	took.Observe(200 * time.Millisecond)
	took.Observe(time.Minute)
	const want = `# HELP requests_total Requests, by status and reason.
# TYPE requests_total counter
requests_total{status="200",reason="ok"} 2
requests_total{status="401",reason="expired"} 0
# HELP grants_total Grants.
# TYPE grants_total counter
grants_total 1
# HELP duration_seconds Time.
# TYPE duration_seconds histogram
duration_seconds_bucket{le="0.1"} 1
duration_seconds_bucket{le="0.25"} 2
duration_seconds_bucket{le="10"} 2
duration_seconds_bucket{le="+Inf"} 3
duration_seconds_sum 60.3
duration_seconds_count 3
# HELP expiry_timestamp_seconds When it ends.
# TYPE expiry_timestamp_seconds gauge
expiry_timestamp_seconds 1.7672256005e+09
# HELP age_seconds Age.
# TYPE age_seconds gauge
# HELP build_info The build.
# TYPE build_info gauge
build_info{version="v1.0 \"x\" \\",commit=""} 1
`
	if got := scrape(&r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestContentType(t *testing.T) {
	w := httptest.NewRecorder()
	new(Registry).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if got := w.Header().Get("Content-Type"); got != "text/plain; version=0.0.4; charset=utf-8" || w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("an empty registry: got %d %q %q", w.Code, got, w.Body)
	}
}

// A bucket holds what is at most its bound.
func TestHistogramEdges(t *testing.T) {
	bounds := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10}
	for i, bound := range bounds {
		edge := time.Duration(math.Round(bound * 1e9))
		for d, bucket := range map[time.Duration]int{edge - 1: i, edge: i, edge + 1: i + 1} {
			var r Registry
			r.Histogram("h", "H.", bounds...).Observe(d)
			want := 0
			for j, b := range append(bounds[:len(bounds):len(bounds)], math.Inf(1)) {
				if j == bucket {
					want = 1
				}
				if line := fmt.Sprintf("h_bucket{le=%q} %d\n", number(b), want); !strings.Contains(scrape(&r), line) {
					t.Errorf("%v: want %q in\n%s", d, line, scrape(&r))
				}
			}
		}
	}
	var r Registry
	h := r.Histogram("h", "H.", 1)
	h.Observe(0)
	h.Observe(-time.Second) // a clock that was set back
	if got := scrape(&r); !strings.Contains(got, "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 2\nh_sum -1\nh_count 2\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1: "1", .00025: "0.00025", 1e21: "1e+21", -1.5: "-1.5", math.Inf(1): "+Inf"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	var r Registry
	c, h := r.Counter("c_total", "C."), r.Histogram("h", "H.", .001, 1)
	var users sync.WaitGroup
	for i := range 8 {
		users.Go(func() {
			for range 1000 {
				c.Inc()
				h.Observe(time.Duration(i) * time.Millisecond)
			}
			scrape(&r)
		})
	}
	users.Wait()
	const want = `c_total 8000
# HELP h H.
# TYPE h histogram
h_bucket{le="0.001"} 2000
h_bucket{le="1"} 8000
h_bucket{le="+Inf"} 8000
h_sum 28
h_count 8000
`
	if got := scrape(&r); !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant it to end in\n%s", got, want)
	}
}

func TestCountingCostsNoMemory(t *testing.T) {
	var r Registry
	c, h := r.Counter("c_total", "C."), r.Histogram("h", "H.", .001, 1)
	if n := testing.AllocsPerRun(100, func() { c.Inc(); h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
