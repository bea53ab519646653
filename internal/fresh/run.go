package fresh

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// A runner is the state of [Value.Run] that readers do not see.
type runner[T comparable] struct {
	*Value[T]
	backoff   time.Duration // the last one, 0 after a success
	newerUsed time.Time     // up to when Newer's fetches are used up (a token bucket in one value, GCRA)
}

// Run fetches the value, and again whenever that is due, until ctx ends. It
// returns when the fetch in progress has returned. Call it once.
func (v *Value[T]) Run(ctx context.Context) {
	r := runner[T]{Value: v}
	for ctx.Err() == nil {
		r.fetch(ctx)
		r.sleep(ctx)
	}
}

// fetch makes one fetch and publishes its result.
func (r *runner[T]) fetch(ctx context.Context) {
	s := *r.state.Load()
	s.fetching = true
	r.publish(s)

	fetchCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	begun := time.Now()
	value, term, err := r.config.Fetch(fetchCtx)
	ended := time.Now()
	if r.config.Report != nil && ctx.Err() == nil {
		r.config.Report(ended.Sub(begun), err)
	}

	done := s.next
	s.fetching, s.err, s.next = false, err, make(chan struct{})
	if err == nil {
		s.value, s.begun, s.until = value, begun, begun.Add(term.Until)
	}
	r.plan(&s, begun.Add(jitter(term.Renew)), ended)
	r.publish(s)
	close(done) // only now: its waiters must find the result
}

// plan sets when the fetch after the one that ended can start; renew is when, if
// that one succeeded.
func (r *runner[T]) plan(s *state[T], renew, ended time.Time) {
	pause := retryAfter(s.err)
	s.paused, s.earliest = pause > 0, ended.Add(max(pause, minGap))
	s.newerAllowed = r.newerUsed.Add(-(newerBurst - 1) * newerInterval)
	if s.err == nil {
		r.backoff = 0
		s.planned = later(renew, s.earliest)
		return
	}
	if s.paused {
		s.planned, s.newerAllowed = s.earliest.Add(rand.N(pauseJitter)), s.earliest
		return
	}
	longest := maxBackoff
	if !s.usable() {
		longest = r.config.MaxBackoff
	}
	r.backoff = min(max(2*r.backoff, minGap), longest)
	s.planned = later(ended.Add(jitter(r.backoff)), s.earliest)
	s.newerAllowed = later(s.newerAllowed, s.earliest)
}

// retryAfter returns the pause that the remote asked for, 0 for none.
func retryAfter(err error) time.Duration {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		return asked.RetryAfter()
	}
	return 0
}

// sleep returns when the next fetch is to start: as planned, or when readers have
// brought it forward.
func (r *runner[T]) sleep(ctx context.Context) {
	s := r.state.Load()
	start, forNewer := s.planned, false
	for {
		wait := until(start)
		if wait <= 0 {
			break
		}
		timer := time.NewTimer(min(wait, clockCheck))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.needed:
			// The request may be older than the value that has come since.
			if !s.paused && !s.usable() {
				start = earlier(start, s.earliest)
			}
		case next := <-r.newer:
			// Likewise: it may have waited for a fetch that has ended.
			if next == s.next && !s.paused && s.newerAllowed.Before(start) {
				start, forNewer = s.newerAllowed, true
			}
		}
		timer.Stop()
	}
	if forNewer {
		r.newerUsed = later(r.newerUsed, time.Now()).Add(newerInterval)
	}
}

// publish makes s what readers see from now on.
func (r *runner[T]) publish(s state[T]) { r.state.Store(&s) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
