package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// figures are all that a report is made of.
type figures struct {
	sampler
	targets []target
	results results
	size    map[string]float64            // of the binary, MB
	allocs  map[string]map[workload]int64 // for each request; absent where it can't be counted
	rounds  int
}

// base is what a workload's ratios are over: with distinct tokens the floor,
// since each needs its signature verified; with a repeated one bare, since that
// work need not be done again.
func (l workload) base() string {
	if l.distinct {
		return "floor"
	}
	return "bare"
}

func label(name string) string {
	if name == "server" {
		return "**this server**"
	}
	return name
}

// cell is one target's CPU time: the median of the rounds' ratios, and of the
// microseconds for a request.
func (f figures) cell(l workload, name string) string {
	of := f.results[l]
	us := fmt.Sprintf("%.0f µs", micros(over(of[name], func(s sample) time.Duration { return s.cpu })))
	if r := ratios(of[name], of[l.base()]); len(r) > 0 {
		return fmt.Sprintf("%.2f (%s)", median(r), us)
	}
	return us
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// cpuTable is the table of CPU time.
func (f figures) cpuTable() string {
	rows := [][]string{{""}}
	for _, l := range f.workloads {
		rows[0] = append(rows[0], l.String()+", × "+l.base())
	}
	for _, t := range f.targets {
		row := []string{label(t.name)}
		for _, l := range f.workloads {
			row = append(row, f.cell(l, t.name))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// footprintTable is the table of everything else.
func (f figures) footprintTable() string {
	rows := [][]string{{"", "exec to listening", "exec to first token", "resident, idle", "under load, 32 connections",
		"2,000 idle connections", "under load, 2,000 connections", "allocations, distinct", "repeated", "binary"}}
	for _, t := range f.targets {
		var few, many, all []sample
		for _, l := range f.workloads {
			samples := f.results[l][t.name]
			all = append(all, samples...)
			if l.conns == 32 {
				few = append(few, samples...)
			} else {
				many = append(many, samples...)
			}
		}
		rows = append(rows, []string{label(t.name),
			milliseconds(over(all, func(s sample) time.Duration { return s.listening })),
			milliseconds(over(all, func(s sample) time.Duration { return s.firstToken })),
			megabytes(over(all, func(s sample) float64 { return s.idle })),
			megabytes(over(few, func(s sample) float64 { return s.peak })),
			megabytes(over(many, func(s sample) float64 { return s.parked })),
			megabytes(over(many, func(s sample) float64 { return s.peak })),
			f.allocations(t.name, true), f.allocations(t.name, false),
			megabytes(f.size[t.name]),
		})
	}
	return markdown(rows)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
}

func megabytes(mb float64) string {
	if mb == 0 {
		return unknown
	}
	return fmt.Sprintf("%.1f MB", mb)
}

const unknown = "–" // not measured in this run

func (f figures) allocations(name string, distinct bool) string {
	n, counted := f.allocs[name][workload{distinct, 32}]
	if !counted {
		return unknown
	}
	return fmt.Sprint(n)
}

// markdown lays rows out as a table that also reads well on a terminal. The
// first row is the head.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	dashes := make([]string, len(widths))
	for i, width := range widths {
		dashes[i] = strings.Repeat("-", width)
	}
	var b strings.Builder
	for _, row := range slices.Insert(slices.Clone(rows), 1, dashes) {
		for i, cell := range row {
			fmt.Fprintf(&b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// spread is how far, at most, half of the rounds' ratios lay from their median,
// in percent: how much to trust the second decimal.
func (f figures) spread() float64 {
	worst := 0.0
	for _, l := range f.workloads {
		for _, t := range f.targets {
			r := ratios(f.results[l][t.name], f.results[l][l.base()])
			middle := median(r)
			var off []float64
			for _, one := range r {
				off = append(off, math.Abs(one/middle-1)*100)
			}
			worst = max(worst, median(off))
		}
	}
	return worst
}

// logged says whether all that was logged under load is in the log.
func (f figures) logged() string {
	missing := 0
	for _, l := range f.workloads {
		for _, s := range f.results[l]["server"] {
			missing += s.unlogged
		}
	}
	if missing != 0 {
		return fmt.Sprintf("The server's log LACKS the lines of %d requests.", missing)
	}
	return "The server's log, in a file, held a line for every request."
}

// report is what goes to the terminal and into results.md.
func (f figures) report() string {
	return fmt.Sprintf(`CPU time for each request, user and system, of the target's process alone, as a multiple (and in this run's microseconds):

%s
%s
Medians of %d rounds of %s requests to each target, in fresh processes that take turns; half of the rounds' ratios lie within
%.1f %% of the one given, or nearer. Only the ratios carry over to another machine
(here: %d cores, %s/%s, %s). Memory is all that is resident, at its highest where it says "under load". %s
`, f.cpuTable(), f.footprintTable(), f.rounds, thousands(f.requests), f.spread(),
		runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), f.logged())
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
