// Bench measures the token server beside the least that could be called its
// job, and beside others that do it: the CPU time that each target's process
// uses for a request, and what it takes to run. Linux only: it reads another
// process's CPU clock, and /proc.
//
//	go run .                                             all of it; writes results.md and results.svg
//	go run . -quick -only server,floor,bare              within a minute; writes nothing
//	go run . -before OLD -only before,server,floor,bare  today's server beside an older binary
//	go run . -growth                                     with more processors, and a slow log
//	go run . -profile profiles                           the server's profiles under both workloads
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

type options struct {
	rounds, requests int
	only, before     string
	quick, growth    bool
	profile, readme  string
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "how often each target is measured")
	flag.IntVar(&o.requests, "requests", 14000, "counted requests to each target, workload and round")
	flag.StringVar(&o.only, "only", "", "comma `list` of targets: bare, floor, server, naive, oauth2-proxy, before")
	flag.StringVar(&o.before, "before", "", "an older server's binary `file`, to be measured beside today's")
	flag.BoolVar(&o.quick, "quick", false, "few, short rounds; no allocations counted")
	flag.BoolVar(&o.growth, "growth", false, "measure with 1, 2 and 4 processors, and a slow log, instead")
	flag.StringVar(&o.profile, "profile", "", "write the server's profiles to this `folder` instead")
	flag.StringVar(&o.readme, "readme", "", "also put the tables into this `file`, between its bench marks")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func (o options) workloads() []workload {
	if o.quick {
		return []workload{{true, 32}, {false, 32}}
	}
	return []workload{{true, 32}, {true, 2000}, {false, 32}, {false, 2000}}
}

func bench(ctx context.Context, o options) error {
	if o.quick {
		o.rounds, o.requests = min(o.rounds, 5), min(o.requests, 4200)
	}
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer w.close()
	all := targets(w, o.before)
	if o.growth || o.profile != "" {
		o.only = "bare,server"
	}
	if o.profile != "" {
		o.requests *= 3 // a profile samples each 10 ms: seconds of work, not one
	}
	chosen, err := choose(all, o.only)
	if err != nil {
		return err
	}
	s := sampler{w, o.workloads(), o.requests}
	fmt.Fprintln(os.Stderr, "building, and signing", s.list(), "tokens")
	if err := w.prepare(ctx, all, chosen); err != nil {
		return err
	}
	w.sign(s.list())

	switch server := find(all, "server"); {
	case o.profile != "":
		return s.profiles(ctx, server, o.profile)
	case o.growth:
		return s.printGrowth(ctx, o.rounds, chosen, server)
	default:
		return s.measure(ctx, o, chosen)
	}
}

// prepare builds the server and the chosen targets, records the server's own
// answer for bare and floor, and sees that they give the same.
func (w *world) prepare(ctx context.Context, all, chosen []target) error {
	server := find(all, "server")
	for _, t := range append([]target{server}, chosen...) { // building twice is building once
		if err := t.build(ctx); err != nil {
			return err
		}
	}
	answer, err := w.record(ctx, server)
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.answer, answer, 0o600); err != nil {
		return err
	}
	for _, t := range chosen {
		if t.name != "bare" && t.name != "floor" {
			continue
		}
		same, err := w.record(ctx, t)
		if err != nil {
			return err
		}
		if date := regexp.MustCompile("Date: .*"); date.ReplaceAllString(string(same), "") != date.ReplaceAllString(string(answer), "") {
			return fmt.Errorf("%s answers %q, want the server's %q", t.name, same, answer)
		}
	}
	return nil
}

// record returns one answer of t, as it came.
func (w *world) record(ctx context.Context, t target) ([]byte, error) {
	p, err := start(ctx, t, w.dir)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	return record(p.addr, w.repeated, t.want)
}

// measure runs all rounds and shows, and of a full run keeps, what they gave.
func (s sampler) measure(ctx context.Context, o options, chosen []target) error {
	f := figures{sampler: s, targets: chosen, rounds: o.rounds, size: map[string]float64{}}
	for _, t := range chosen {
		info, err := os.Stat(t.binary)
		if err != nil {
			return err
		}
		f.size[t.name] = float64(info.Size()) / 1e6
	}
	var err error
	if f.results, err = s.rounds(ctx, o.rounds, chosen); err != nil {
		return err
	}
	if !o.quick {
		if f.allocs, err = s.allocations(ctx, chosen); err != nil {
			return err
		}
	}
	report := f.report()
	fmt.Print(report)
	if o.quick || o.only != "" || o.before != "" {
		return nil
	}
	if err := os.WriteFile("results.md", []byte(report), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile("results.svg", []byte(f.chart()), 0o644); err != nil {
		return err
	}
	return intoREADME(o.readme, report)
}

const (
	readmeBegin = "<!-- bench: written by make bench -->\n"
	readmeEnd   = "<!-- bench: end -->\n"
)

// intoREADME puts the report between the two marks in file, if one is named.
func intoREADME(file, report string) error {
	if file == "" {
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, began := strings.Cut(string(text), readmeBegin)
	_, after, ended := strings.Cut(rest, readmeEnd)
	if !began || !ended {
		return fmt.Errorf("%s lacks the lines %q and %q", filepath.Base(file), readmeBegin, readmeEnd)
	}
	return os.WriteFile(file, []byte(before+readmeBegin+report+readmeEnd+after), 0o644)
}
