package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// printGrowth prints both of what is below.
func (s sampler) printGrowth(ctx context.Context, rounds int, targets []target, server target) error {
	table, err := s.growth(ctx, rounds, targets)
	if err != nil {
		return err
	}
	line, err := s.slowLog(ctx, rounds, server)
	fmt.Print(table, "\n", line)
	return err
}

// growth measures how a request's cost grows with the processors that Go uses,
// simulated where the machine has fewer. A lock on the request's path would
// show as more CPU for a request, and more waits.
func (s sampler) growth(ctx context.Context, rounds int, targets []target) (string, error) {
	var variants []target
	rows := [][]string{{"", "GOMAXPROCS"}}
	for _, t := range targets {
		for _, n := range []string{"1", "2", "4"} {
			variants = append(variants, t.with(t.name+n, "GOMAXPROCS="+n))
			rows = append(rows, []string{label(t.name), n})
		}
	}
	s.workloads = []workload{{true, 64}, {false, 64}}
	found, err := s.rounds(ctx, rounds, variants)
	if err != nil {
		return "", err
	}
	for _, l := range s.workloads {
		rows[0] = append(rows[0], l.kind()+": requests per CPU second", "waits per request")
		for i, t := range variants {
			cpu := over(found[l][t.name], func(s sample) time.Duration { return s.cpu })
			waits := over(found[l][t.name], func(s sample) float64 { return s.waits })
			rows[i+1] = append(rows[i+1], thousands(int(time.Second/cpu)), fmt.Sprintf("%.2f", waits))
		}
	}
	return markdown(rows), nil
}

const (
	slowRead  = 4 << 10
	slowPause = 50 * time.Millisecond
)

// slowLog compares the time that the server's callers needed while its log went
// to a file with the time they needed while it went to a reader that takes
// slowRead bytes at a time, each slowPause: far less than is written. A log that
// serialises makes them wait at its reader's pace.
func (s sampler) slowLog(ctx context.Context, rounds int, server target) (string, error) {
	l := workload{false, 64}
	var file, slow []time.Duration
	missing, sent := 0, 0
	for range rounds {
		beside, err := s.samples(ctx, l, []target{server})
		if err != nil {
			return "", err
		}
		file = append(file, beside[0].wall)
		one, err := s.slowly(ctx, l, server)
		if err != nil {
			return "", err
		}
		slow = append(slow, one.wall)
		missing += one.unlogged
		sent += one.sent
	}
	pace := float64(slowRead) / slowPause.Seconds() / 1e3
	return fmt.Sprintf("With its log read at %.0f kB/s, the server answered in %.2f × the time it took with its log in a file, and left out %d of %d lines.\n",
		pace, float64(median(slow))/float64(median(file)), missing, sent), nil
}

// slowly is one life with the log going through a pipe to the slow reader.
func (s sampler) slowly(ctx context.Context, l workload, server target) (*life, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	hurry, lines := make(chan struct{}), make(chan int)
	go func() { lines <- readSlowly(r, hurry, server.logs) }()

	p, err := startTo(ctx, server, w, s.world.dir)
	w.Close() // the process has its own
	if err != nil {
		close(hurry)
		<-lines
		return nil, err
	}
	one, err := s.begin(p, server, l)
	if err == nil {
		err = s.count([]*life{one})
		one.pool.close()
	}
	close(hurry) // its last lines must not hold up its end
	p.stop()
	logged := <-lines
	if err != nil {
		return nil, err
	}
	one.unlogged = one.sent - logged
	return one, nil
}

// readSlowly reads r at the slow pace until hurry is closed, then the rest as
// fast as it comes, and counts the lines that hold a text.
func readSlowly(r io.Reader, hurry <-chan struct{}, text string) int {
	var log []byte
	part := make([]byte, slowRead)
	for {
		select {
		case <-hurry:
			rest, _ := io.ReadAll(r)
			return bytes.Count(append(log, rest...), []byte(text))
		case <-time.After(slowPause):
			n, _ := r.Read(part)
			log = append(log, part[:n]...)
		}
	}
}
