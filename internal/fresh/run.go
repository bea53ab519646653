package fresh

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// minGap is the time from a fetch's end to the next one's beginning at least, so
	// that an outage does not become a flood.
	minGap = time.Second

	// maxBackoff is short enough for a recovery to be noticed soon.
	maxBackoff = 30 * time.Second

	// newerInterval is the time from a fetch's beginning to that of one for Newer at
	// least. Anyone may make a server call Newer, with a token that was made up.
	newerInterval = 10 * time.Second

	// clockCheck is the time between looks at the wall clock. Timers stand still while
	// a laptop sleeps, so one timer for the whole wait would end hours too late.
	clockCheck = 30 * time.Second
)

// Run fetches the value, and again whenever that is due, until ctx ends. It returns
// when the fetch in progress has returned. Call it once.
func (v *Value[T]) Run(ctx context.Context) {
	for ctx.Err() == nil {
		v.fetch(ctx)
		v.sleep(ctx)
	}
}

// fetch makes one fetch and publishes its result.
func (v *Value[T]) fetch(ctx context.Context) {
	s := *v.state.Load()
	busy := s
	busy.fetching = true
	v.state.Store(&busy)

	begun := time.Now()
	value, term, err := v.config.Fetch(ctx)
	took := time.Since(begun)
	if v.config.Report != nil && ctx.Err() == nil {
		v.config.Report(took, err)
	}

	s.err, s.fetching = err, false
	s.ended, s.asked = make(chan struct{}), make(chan time.Time, 1)
	if err == nil {
		s.value, s.begun, s.expiry = value, begun, begun.Add(term.Until)
	}
	v.plan(&s, begun, took, term.Renew)
	v.state.Store(&s)
	close(busy.ended) // only now: its waiters must find the result
}

// plan sets when the next fetch starts. The last one began at begun and ended took
// later; if it succeeded, its value is to be renewed after renew. All durations are
// counted from begun.
func (v *Value[T]) plan(s *state[T], begun time.Time, took, renew time.Duration) {
	pause := retryAfter(s.err)
	first := took + max(pause, minGap)
	planned := first
	if s.err == nil {
		v.backoff, planned = 0, jitter(renew)
	} else if pause == 0 {
		v.backoff = min(max(2*v.backoff, minGap), v.longestBackoff(s))
		planned = took + jitter(v.backoff)
	}
	planned = max(planned, first)
	s.planned, s.forGet = begun.Add(planned), begun.Add(first)
	s.forNewer = begun.Add(min(max(newerInterval, first), planned))
}

// longestBackoff depends on whether there is a value to serve.
func (v *Value[T]) longestBackoff(s *state[T]) time.Duration {
	if v.usable(s) {
		return maxBackoff
	}
	return cmp.Or(v.config.MaxBackoff, maxBackoff)
}

// pausing is an error that asks for a pause.
type pausing interface {
	error
	RetryAfter() time.Duration
}

// retryAfter returns the pause that the remote asked for, 0 for none.
func retryAfter(err error) time.Duration {
	if asks, ok := errors.AsType[pausing](err); ok {
		return asks.RetryAfter()
	}
	return 0
}

// jitter takes up to a tenth off d, so that replicas that started together spread.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// sleep returns when the next fetch is to start: as planned, or earlier if a reader
// asks, or when ctx ends.
func (v *Value[T]) sleep(ctx context.Context) {
	s := v.state.Load()
	start := s.planned
	for v.left(start) > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(v.left(start), clockCheck)):
		case start = <-s.asked: // never later than planned
		}
	}
}
