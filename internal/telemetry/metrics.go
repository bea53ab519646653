package telemetry

import (
	"cmp"
	"fmt"
	"io"
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

// bounds are those of a histogram's buckets, in seconds. A request takes microseconds, or
// waits for a fetch, which crosses the internet and ends after 10 s.
var bounds = [...]float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, math.Inf(1),
}

// events are a counter by result, and a histogram of durations.
type events struct {
	total, totalHelp       string
	results                map[string]*result // all that can be: no caller can add a series
	duration, durationHelp string
	buckets                [len(bounds)]atomic.Uint64
	sum                    atomic.Int64 // nanoseconds: an integer can be added to atomically
}

type result struct {
	labels string
	count  atomic.Uint64
}

// record counts an event, as other if its result is not known.
func (e *events) record(result string, took time.Duration) {
	cmp.Or(e.results[result], e.results[other]).count.Add(1)
	i, _ := slices.BinarySearch(bounds[:], took.Seconds())
	e.buckets[i].Add(1)
	e.sum.Add(int64(took))
}

func (e *events) write(w io.Writer) {
	header(w, e.total, "counter", e.totalHelp)
	for _, name := range slices.Sorted(maps.Keys(e.results)) {
		fmt.Fprintf(w, "%s{%s} %d\n", e.total, e.results[name].labels, e.results[name].count.Load())
	}
	header(w, e.duration, "histogram", e.durationHelp)
	var count uint64
	for i, bound := range bounds {
		count += e.buckets[i].Load()
		fmt.Fprintf(w, "%s_bucket{le=%q} %d\n", e.duration, number(bound), count)
	}
	fmt.Fprintf(w, "%s_sum %s\n%s_count %d\n",
		e.duration, number(time.Duration(e.sum.Load()).Seconds()), e.duration, count)
}

// metric writes a metric that is one value.
func metric(w io.Writer, kind, name, labels, help string, value float64) {
	header(w, name, kind, help)
	fmt.Fprintf(w, "%s%s %s\n", name, labels, number(value))
}

func header(w io.Writer, name, kind, help string) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// number writes v, infinity as +Inf.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// unix is a time in seconds since 1970; 0 for the zero time.
func unix(t time.Time) float64 { return max(0, float64(t.UnixMilli())/1e3) }
