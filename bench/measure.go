package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

const (
	// settle is how long targets are left alone before their clocks are read,
	// so that work they put off (a log's last lines, a collection) is counted.
	settle = 100 * time.Millisecond
	// warmUp is the least number of requests before the counted ones.
	warmUp = 2000
	// turns is in how many parts a round's requests are sent, each target's
	// turn right after another's, so that what else the machine does meets all
	// of them alike.
	turns = 7
)

// workload is one way to be asked.
type workload struct {
	distinct bool // no token is ever seen twice; otherwise one token, repeated
	conns    int
}

func (l workload) String() string {
	return fmt.Sprintf("%s, %s connections", l.kind(), thousands(l.conns))
}

func (l workload) kind() string {
	if l.distinct {
		return "distinct tokens"
	}
	return "one repeated token"
}

// sample is what one life of one target process gave.
type sample struct {
	cpu        time.Duration // for each counted request, user and system
	wall       time.Duration // of all of them; no measure of a target
	waits      float64       // voluntary context switches for each request
	listening  time.Duration // from exec
	firstToken time.Duration // from exec
	idle       float64       // MB resident, after the first token
	parked     float64       // MB resident, with all connections open and idle
	peak       float64       // MB resident, the most ever
	unlogged   int           // requests that its log has no line for
}

// sampler measures targets in one world.
type sampler struct {
	world     *world
	workloads []workload
	requests  int // counted in each life
}

// list is how many distinct requests a life can need.
func (s sampler) list() int {
	most := warmUp
	for _, l := range s.workloads {
		most = max(most, l.conns)
	}
	return 1 + most + s.requests
}

// samples gives each target one life under the workload, all at the same time
// but taking turns at work, and returns what each gave.
func (s sampler) samples(ctx context.Context, l workload, targets []target) ([]sample, error) {
	lives := make([]*life, len(targets))
	for _, i := range rand.Perm(len(targets)) {
		p, err := start(ctx, targets[i], s.world.dir)
		if err != nil {
			return nil, err
		}
		defer p.stop()
		if lives[i], err = s.begin(p, targets[i], l); err != nil {
			return nil, err
		}
		defer lives[i].pool.close()
	}
	if err := s.count(lives); err != nil {
		return nil, err
	}
	all := make([]sample, len(lives))
	for i, one := range lives {
		if err := one.end(); err != nil {
			return nil, err
		}
		all[i] = one.sample
	}
	return all, ctx.Err()
}

// count sends the counted requests, in turns, and reads the clocks around them.
func (s sampler) count(lives []*life) error {
	time.Sleep(settle)
	for _, one := range lives {
		if err := one.before(); err != nil {
			return err
		}
	}
	for range turns {
		for _, i := range rand.Perm(len(lives)) {
			if err := lives[i].turn(s.requests / turns); err != nil {
				return err
			}
		}
	}
	time.Sleep(settle)
	for _, one := range lives {
		if err := one.after(s.requests / turns * turns); err != nil {
			return err
		}
	}
	return nil
}

// results holds the samples of each workload and target, a round after another.
type results map[workload]map[string][]sample

// rounds measures every target with every workload, n times.
func (s sampler) rounds(ctx context.Context, n int, targets []target) (results, error) {
	all := results{}
	for _, l := range s.workloads {
		all[l] = map[string][]sample{}
	}
	for round := range n {
		for _, l := range s.workloads {
			samples, err := s.samples(ctx, l, targets)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l, err)
			}
			for i, t := range targets {
				all[l][t.name] = append(all[l][t.name], samples[i])
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, n)
	}
	return all, nil
}
