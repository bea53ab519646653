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

	// maxBackoff is short enough for a recovery to be noticed soon without readers.
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

// fetch makes one fetch. It publishes one state before it and one after it.
func (v *Value[T]) fetch(ctx context.Context) {
	// The copy has the same channels: readers who asked for this fetch wait for its end.
	during := *v.state.Load()
	during.fetching = true
	v.state.Store(&during)

	begun := time.Now()
	value, term, err := v.config.Fetch(ctx)
	took := time.Since(begun)
	if v.config.Report != nil && ctx.Err() == nil {
		v.config.Report(took, err)
	}

	after := during // with the value that it had, if the fetch failed
	after.err, after.fetching = err, false
	after.ended, after.asked = make(chan struct{}), make(chan struct{}, 1)
	if err == nil {
		after.value, after.begun, after.expiry = value, begun, begun.Add(term.Until)
	}
	v.plan(&after, begun, took, term.Renew)
	v.state.Store(&after)
	close(during.ended) // only now: its waiters must find the result
}

// pausing is an error that asks for a pause.
type pausing interface {
	error
	RetryAfter() time.Duration
}

// plan sets when the next fetch starts. It counts from the beginning of the last one,
// which took so long. If that succeeded, its value is to be renewed after renew.
func (v *Value[T]) plan(s *state[T], begun time.Time, took, renew time.Duration) {
	var pause time.Duration
	if asks, ok := errors.AsType[pausing](s.err); ok {
		pause = asks.RetryAfter()
	}
	earliest := took + max(pause, minGap)
	planned := earliest // stays so if the fetch failed and asked for a pause
	if s.err == nil {
		v.backoff = 0
		planned = max(earliest, jitter(renew))
	} else if pause == 0 {
		longest := maxBackoff
		if !v.usable(s) {
			longest = cmp.Or(v.config.MaxBackoff, maxBackoff)
		}
		v.backoff = min(max(2*v.backoff, minGap), longest)
		planned = max(earliest, took+jitter(v.backoff))
	}
	s.planned, s.forGet = begun.Add(planned), begun.Add(earliest)
	s.forNewer = begun.Add(min(max(earliest, newerInterval), planned))
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
		case <-s.asked:
			start = s.forGet
		case <-time.After(min(v.left(start), clockCheck)):
		}
	}
}
