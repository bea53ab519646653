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
	hourly = Term{Renew: 30 * time.Minute, Until: time.Hour}
	daily  = Term{Renew: 12 * time.Hour, Until: 24 * time.Hour} // not renewed during a test

	errDown = errors.New("down")
)

// A pause is an error that asks for one.
type pause time.Duration

func (p pause) Error() string             { return "paused" }
func (p pause) RetryAfter() time.Duration { return time.Duration(p) }

// hang is the duration of a fetch that never gets an answer.
const hang = time.Hour

// A remote answers each fetch with its number, from 1.
type remote struct {
	term Term

	mu    sync.Mutex // guards what follows
	takes time.Duration
	err   error
	begun []time.Time
}

// set sets the duration and the error of the fetches that begin from now on.
func (r *remote) set(takes time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.err = takes, err
}

func (r *remote) fetch(ctx context.Context) (int, Term, error) {
	r.mu.Lock()
	r.begun = append(r.begun, time.Now())
	n, takes, err := len(r.begun), r.takes, r.err
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // as upstream.Do does
	defer cancel()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return 0, Term{}, ctx.Err()
		case <-time.After(takes):
		}
	}
	return n, r.term, err
}

// fetches returns when each fetch began.
func (r *remote) fetches() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.begun)
}

// gaps returns the time from each fetch's beginning to the next one's, from fetch n on.
func (r *remote) gaps(n int) (gaps []time.Duration) {
	begun := r.fetches()
	for i := n; i < len(begun); i++ {
		gaps = append(gaps, begun[i].Sub(begun[i-1]))
	}
	return gaps
}

// testValue runs a test in a bubble, with a value that is fetched from r.
func testValue(t *testing.T, r *remote, test func(*testing.T, *Value[int])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := New(Config[int]{Fetch: r.fetch})
		go v.Run(t.Context())
		test(t, v)
	})
}

// A result is what a reader got.
type result struct {
	value int
	err   error
	took  time.Duration
	retry time.Duration // from the answer until the reader may ask again
}

// get reads the value with a deadline of 15 s.
func get(v *Value[int]) result { return read(v.Get, 15*time.Second) }

// newer asks for a newer value with a deadline of 3 s.
func newer(v *Value[int]) result { return read(v.Newer, 3*time.Second) }

func read(method func(context.Context) (int, error), timeout time.Duration) (r result) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r.value, r.err = method(ctx)
	r.took = time.Since(begun)
	if failed, ok := errors.AsType[*Error](r.err); ok {
		r.retry = max(0, time.Until(failed.Retry))
	}
	return r
}

func wantResult(t *testing.T, got, want result) {
	t.Helper()
	if !errors.Is(got.err, want.err) {
		t.Errorf("got the error %v, want %v", got.err, want.err)
	}
	got.err = want.err
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func wantFetches(t *testing.T, r *remote, want int) {
	t.Helper()
	if got := len(r.fetches()); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}
