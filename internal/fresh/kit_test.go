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

var errDown = errors.New("down")

// hang is an answer that never comes in time.
const hang = time.Hour

// A remote answers each fetch with its number.
type remote struct {
	term Term

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
	select {
	case <-ctx.Done():
	case <-time.After(takes):
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

// hourly is the term of an iTwin token: an hour's life, served but for its last 5 s.
var hourly = Term{Renew: 30 * time.Minute, Until: time.Hour - 5*time.Second}

// daily is the term of keys that are not renewed during a test.
var daily = Term{Renew: 12 * time.Hour, Until: 24 * time.Hour}

// start runs a value over r in the test's bubble.
func start(t *testing.T, r *remote, maxBackoff time.Duration) *Value[int] {
	v := New(Config[int]{Fetch: r.fetch, MaxBackoff: maxBackoff})
	go v.Run(t.Context())
	return v
}

// get reads v with a deadline of 10 s.
func get(v *Value[int]) (n int, took time.Duration, err error) {
	return timed(10*time.Second, v.Get)
}

// newer asks v for a newer value than the last with a deadline of 3 s.
func newer(v *Value[int]) (n int, took time.Duration, err error) {
	return timed(3*time.Second, func(ctx context.Context) (int, error) { return v.Newer(ctx, v.Last()) })
}

func timed(timeout time.Duration, read func(context.Context) (int, error)) (n int, took time.Duration, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	n, err = read(ctx)
	return n, time.Since(begun), err
}

// retryIn returns how long after now the reader with this error is to ask again.
func retryIn(err error) time.Duration {
	var failed *Error
	if !errors.As(err, &failed) {
		return -1
	}
	return time.Until(failed.Retry)
}

func wantFetches(t *testing.T, r *remote, want int) {
	t.Helper()
	if got := len(r.fetches()); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}
