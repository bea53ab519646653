package telemetry

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// prefix begins the name of every metric that is not a standard one.
const prefix = "itwin_token_server_"

// other counts results that were not declared.
const other = "other"

// events are a counter by result and a histogram of durations. Every series exists
// from the start, so that no caller can add one.
type events struct {
	total, totalHelp       string
	duration, durationHelp string
	results                map[string]*result
	bounds                 []float64       // of the buckets: seconds, ascending
	buckets                []atomic.Uint64 // the last one has no bound
	sum                    atomic.Int64    // nanoseconds: an integer can be added to atomically
}

type result struct {
	labels string
	count  atomic.Uint64
}

func newEvents(total, totalHelp, duration, durationHelp string, bounds ...float64) *events {
	return &events{
		total: prefix + total, totalHelp: totalHelp, duration: prefix + duration, durationHelp: durationHelp,
		results: make(map[string]*result), bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1),
	}
}

// declare adds a result. Go and Prometheus quote printable text alike.
func (e *events) declare(name, labels string, values ...any) {
	e.results[name] = &result{labels: fmt.Sprintf(labels, values...)}
}

// record counts an event, as "other" if its result was not declared.
func (e *events) record(name string, took time.Duration) {
	r, ok := e.results[name]
	if !ok {
		r = e.results[other]
	}
	r.count.Add(1)
	i, _ := slices.BinarySearch(e.bounds, took.Seconds())
	e.buckets[i].Add(1)
	e.sum.Add(int64(took))
}

func (e *events) write(b *bytes.Buffer) {
	header(b, e.total, "counter", e.totalHelp)
	for _, name := range slices.Sorted(maps.Keys(e.results)) {
		fmt.Fprintf(b, "%s{%s} %d\n", e.total, e.results[name].labels, e.results[name].count.Load())
	}
	header(b, e.duration, "histogram", e.durationHelp)
	var count uint64
	for i, bound := range append(slices.Clip(e.bounds), math.Inf(1)) {
		count += e.buckets[i].Load()
		fmt.Fprintf(b, "%s_bucket{le=%q} %d\n", e.duration, number(bound), count)
	}
	sum := time.Duration(e.sum.Load()).Seconds()
	fmt.Fprintf(b, "%s_sum %s\n%s_count %d\n", e.duration, number(sum), e.duration, count)
}

// gauge writes a value, or no series if it is NaN.
func gauge(b *bytes.Buffer, name, labels, help string, value float64) {
	header(b, name, "gauge", help)
	if !math.IsNaN(value) {
		fmt.Fprintf(b, "%s%s %s\n", name, labels, number(value))
	}
}

func header(b *bytes.Buffer, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %[1]s %[3]s\n# TYPE %[1]s %[2]s\n", name, kind, help)
}

// number writes v, infinity as +Inf.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// seconds is Unix time; 0 for none.
func seconds(t time.Time) float64 { return max(0, float64(t.UnixMilli())/1e3) }
