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

// other counts the results that are not known.
const other = "other"

// events are a counter by result, and a histogram of durations.
type events struct {
	total, totalHelp       string
	results                map[string]*result // all that can be: no caller can add a series
	duration, durationHelp string
	bounds                 []float64         // of the buckets: seconds, ascending
	buckets                [16]atomic.Uint64 // one for each bound, and one without
	sum                    atomic.Int64      // nanoseconds: an integer can be added to atomically
}

type result struct {
	labels string
	count  atomic.Uint64
}

// record counts an event, as other if its result is not known.
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
		r := e.results[name]
		fmt.Fprintf(b, "%s{%s} %d\n", e.total, r.labels, r.count.Load())
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

// gauge writes a value.
func gauge(b *bytes.Buffer, name, labels, help string, value float64) {
	header(b, name, "gauge", help)
	fmt.Fprintf(b, "%s%s %s\n", name, labels, number(value))
}

func header(b *bytes.Buffer, name, kind, help string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// number writes v, infinity as +Inf.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// seconds is Unix time; 0 for the zero time.
func seconds(t time.Time) float64 { return max(0, float64(t.UnixMilli())/1e3) }
