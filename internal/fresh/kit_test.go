package fresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	hourly = Term{Renew: 30 * time.Minute, Until: time.Hour - 5*time.Second} // of an iTwin token: served but for its last 5 s
	daily  = Term{Renew: 12 * time.Hour, Until: 24 * time.Hour}              // of keys that are not renewed during a test

	errDown = errors.New("down")
)

// throttled is an error with a pause.
type throttled time.Duration

func (p throttled) Error() string             { return "throttled" }
func (p throttled) RetryAfter() time.Duration { return time.Duration(p) }

// hang is an answer that never comes in time.
const hang = time.Hour

// A remote answers each fetch with its number.
type remote struct {
	term       Term
	maxBackoff time.Duration

	mu     sync.Mutex // guards what follows
	takes  time.Duration
	err    error
	busy   bool
	starts []time.Time
}

// set sets how long answers take from now on, and their error.
func (r *remote) set(takes time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.err = takes, err
}

func (r *remote) fetch(ctx context.Context) (int, Term, error) {
	r.mu.Lock()
	if r.busy {
		panic("two fetches at once")
	}
	r.busy, r.starts = true, append(r.starts, time.Now())
	n, takes := len(r.starts), r.takes
	r.mu.Unlock()
	if takes > 0 { // a timer that is due at once can crash the race detector in a bubble
		select {
		case <-ctx.Done():
		case <-time.After(takes):
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	if ctx.Err() != nil {
		return 0, Term{}, ctx.Err()
	}
	return n, r.term, r.err
}

// fetches returns when each fetch started.
func (r *remote) fetches() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.starts)
}

// gaps returns the time between each fetch and the next, from fetch n on.
func (r *remote) gaps(n int) (gaps []time.Duration) {
	starts := r.fetches()
	for i := n; i < len(starts); i++ {
		gaps = append(gaps, starts[i].Sub(starts[i-1]))
	}
	return gaps
}

// run tests a value over r in a bubble.
func run(t *testing.T, r *remote, test func(*testing.T, *Value[int])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := New(Config[int]{Fetch: r.fetch, MaxBackoff: r.maxBackoff})
		go v.Run(t.Context())
		test(t, v)
	})
}

// A result is what a reader got.
type result struct {
	n     int
	took  time.Duration
	err   error
	retry time.Duration // until it is to ask again
}

// get reads v with a deadline of 10 s.
func get(v *Value[int]) result { return read(10*time.Second, v.Get) }

// newer asks v for a newer value than the last with a deadline of 3 s.
func newer(v *Value[int]) result {
	return read(3*time.Second, func(ctx context.Context) (int, error) { return v.Newer(ctx, v.Last()) })
}

func read(timeout time.Duration, method func(context.Context) (int, error)) (r result) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r.n, r.err = method(ctx)
	r.took = time.Since(begun)
	if failed, ok := errors.AsType[*Error](r.err); ok {
		r.retry = max(0, time.Until(failed.Retry))
	}
	return r
}

// is wants the value n after a time.
func (r result) is(t *testing.T, n int, took time.Duration) {
	t.Helper()
	if r.n != n || r.took != took || r.err != nil {
		t.Errorf("%d after %v, %v; want %d after %v", r.n, r.took, r.err, n, took)
	}
}

// fails wants an error after a time, and that the reader is to ask again after retry.
func (r result) fails(t *testing.T, err error, took, retry time.Duration) {
	t.Helper()
	if !errors.Is(r.err, err) || r.took != took || r.retry != retry {
		t.Errorf("%v after %v, retry in %v; want %v after %v, %v", r.err, r.took, r.retry, err, took, retry)
	}
}
