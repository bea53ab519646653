package telemetry

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A Registry holds the metrics of a program and writes them as Prometheus text
// (exposition format 0.0.4). Every series is declared at start, so no caller can
// add one. Series of one name are declared one after the other.
type Registry struct {
	name   string // of the last metric that was declared
	series []func(*bytes.Buffer)
}

// declare adds a series, and a header before the first of its name.
func (r *Registry) declare(name, help, kind string, write func(*bytes.Buffer)) {
	if name != r.name {
		r.name = name
		header := fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		r.series = append(r.series, func(b *bytes.Buffer) { b.WriteString(header) })
	}
	r.series = append(r.series, write)
}

// A Counter counts up.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Counter declares a counter. Labels are names and values in turn.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	c, series := new(Counter), name+labelText(labels)
	r.declare(name, help, "counter", func(b *bytes.Buffer) { fmt.Fprintf(b, "%s %d\n", series, c.n.Load()) })
	return c
}

// Gauge declares a value that is read at each scrape, and left out if it is NaN.
func (r *Registry) Gauge(name, help string, value func() float64, labels ...string) {
	series := name + labelText(labels)
	r.declare(name, help, "gauge", func(b *bytes.Buffer) {
		if v := value(); !math.IsNaN(v) {
			fmt.Fprintf(b, "%s %s\n", series, number(v))
		}
	})
}

// A Histogram counts durations in buckets.
type Histogram struct {
	bounds []float64 // seconds, ascending
	counts []atomic.Uint64
	sum    atomic.Int64 // nanoseconds: an integer can be added to atomically
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Histogram declares a histogram with the given bounds, in seconds.
func (r *Registry) Histogram(name, help string, bounds ...float64) *Histogram {
	h := &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
	r.declare(name, help, "histogram", func(b *bytes.Buffer) {
		var total uint64
		for i, bound := range append(slices.Clone(bounds), math.Inf(1)) {
			total += h.counts[i].Load()
			fmt.Fprintf(b, "%s_bucket{le=%q} %d\n", name, number(bound), total)
		}
		fmt.Fprintf(b, "%s_sum %s\n%s_count %d\n", name, number(time.Duration(h.sum.Load()).Seconds()), name, total)
	})
	return h
}

// ServeHTTP responds to a scrape.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	for _, write := range r.series {
		write(&b)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(b.Bytes())
}

// labelText writes labels. Go and Prometheus quote printable text alike.
func labelText(labels []string) string {
	var pairs []string
	for pair := range slices.Chunk(labels, 2) {
		pairs = append(pairs, pair[0]+"="+strconv.Quote(pair[1]))
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// number writes v, infinity as +Inf.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
