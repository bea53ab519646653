package telemetry

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// A Registry holds the metrics of a program and writes them as Prometheus text
// (exposition format 0.0.4). Every series is declared at start, so no caller can
// add one. Series of one name are declared one after the other.
type Registry struct{ families []*family }

type family struct {
	name, help, kind string
	series           []func(*bytes.Buffer)
}

// A Counter counts up.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Counter declares a counter. Labels are names and values in turn.
func (r *Registry) Counter(name, help string, labels ...string) *Counter {
	c, series := new(Counter), name+labelText(labels)
	r.add(name, help, "counter", func(b *bytes.Buffer) {
		fmt.Fprintf(b, "%s %d\n", series, c.n.Load())
	})
	return c
}

// Gauge declares a value that is read at each scrape, and left out if it
// reports false.
func (r *Registry) Gauge(name, help string, value func() (float64, bool), labels ...string) {
	series := name + labelText(labels)
	r.add(name, help, "gauge", func(b *bytes.Buffer) {
		if v, ok := value(); ok {
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
func (r *Registry) Histogram(name, help string, bounds []float64) *Histogram {
	h := &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
	r.add(name, help, "histogram", func(b *bytes.Buffer) {
		var total uint64
		for i, bound := range append(slices.Clone(bounds), math.Inf(1)) {
			total += h.counts[i].Load()
			fmt.Fprintf(b, "%s_bucket{le=%q} %d\n", name, number(bound), total)
		}
		fmt.Fprintf(b, "%s_sum %s\n", name, number(time.Duration(h.sum.Load()).Seconds()))
		fmt.Fprintf(b, "%s_count %d\n", name, total)
	})
	return h
}

func (r *Registry) add(name, help, kind string, write func(*bytes.Buffer)) {
	if n := len(r.families); n == 0 || r.families[n-1].name != name {
		r.families = append(r.families, &family{name: name, help: help, kind: kind})
	}
	last := r.families[len(r.families)-1]
	last.series = append(last.series, write)
}

// ServeHTTP responds to a scrape.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	for _, f := range r.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", f.name, f.help, f.name, f.kind)
		for _, write := range f.series {
			write(&b)
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Write(b.Bytes())
}

// labelText writes labels. Go and Prometheus quote printable text alike.
func labelText(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	text := "{"
	for i := 0; i < len(labels); i += 2 {
		if i > 0 {
			text += ","
		}
		text += labels[i] + "=" + strconv.Quote(labels[i+1])
	}
	return text + "}"
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
