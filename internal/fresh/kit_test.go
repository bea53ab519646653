package fresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	hourly = Term{Renew: 30 * time.Minute, Until: time.Hour - 5*time.Second} // of an iTwin token: served but for its last 5 s
	daily  = Term{Renew: 12 * time.Hour, Until: 24 * time.Hour}              // of keys that are not renewed during a test

	errDown = errors.New("down")
)

// throttled is an error that asks for a pause.
type throttled time.Duration

func (p throttled) Error() string             { return "throttled" }
func (p throttled) RetryAfter() time.Duration { return time.Duration(p) }

// hang is an answer that never comes in time.
const hang = time.Hour

// A remote answers each fetch with its number.
type remote struct {
	term       Term
	maxBackoff time.Duration
	busy       atomic.Bool

	mu     sync.Mutex // guards what follows
	takes  time.Duration
	err    error
	starts []time.Time
}

// set sets how long fetches that begin from now on take, and their error.
func (r *remote) set(takes time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.err = takes, err
}

func (r *remote) fetch(ctx context.Context) (int, Term, error) {
	if !r.busy.CompareAndSwap(false, true) {
		panic("two fetches at once")
	}
	defer r.busy.Store(false)
	r.mu.Lock()
	r.starts = append(r.starts, time.Now())
	n, takes, err := len(r.starts), r.takes, r.err
	r.mu.Unlock()
	if takes == 0 { // a timer that is due at once can crash the race detector in a bubble
		return n, r.term, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // as upstream.Do does
	defer cancel()
	select {
	case <-ctx.Done():
		return 0, Term{}, ctx.Err()
	case <-time.After(takes):
		return n, r.term, err
	}
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

func (r result) is(t *testing.T, want result) {
	t.Helper()
	if r.n != want.n || r.took != want.took || r.retry != want.retry || !errors.Is(r.err, want.err) {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
}
