package fresh

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	fetchTimeout = 10 * time.Second // of one fetch, and so what a reader can wait for one

	// minGap is the least time from the end of one fetch to the start of the
	// next, however many readers ask: an outage must not become a flood. The few
	// fetches of [Value.Newer] keep it only after a failure.
	minGap = time.Second

	// maxBackoff is the longest back-off: short enough that a recovery is noticed
	// soon, long enough not to burden a server in trouble.
	maxBackoff = 30 * time.Second

	// pauseJitter is the most by which a fetch after a pause is delayed, so that
	// replicas that were paused until the same moment spread.
	pauseJitter = time.Second

	// newerBurst and newerInterval limit the fetches that [Value.Newer] causes:
	// some at once for honest callers, then few, since anyone may be calling.
	newerBurst    = 5
	newerInterval = 30 * time.Second

	// clockCheck is how often a wait looks at the wall clock. Timers stand still
	// while a laptop sleeps; the remote's clock does not.
	clockCheck = 30 * time.Second
)

// Run fetches the value, and again whenever that is due, until ctx ends. It
// returns when the fetch in progress has returned. Call it once.
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

	fetchCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	begun := time.Now()
	value, term, err := v.config.Fetch(fetchCtx)
	ended := time.Now()
	if v.config.Report != nil && ctx.Err() == nil {
		v.config.Report(ended.Sub(begun), err)
	}

	s.fetching, s.err, s.next = false, err, make(chan struct{})
	if err == nil {
		s.value, s.begun, s.until = value, begun, begun.Add(term.Until)
	}
	v.plan(&s, begun.Add(jitter(term.Renew)), ended)
	v.state.Store(&s)
	close(busy.next) // only now: its waiters must find the result
}

// plan sets when the fetch after the one that ended can start; renew is when, if
// that one succeeded.
func (v *Value[T]) plan(s *state[T], renew, ended time.Time) {
	pause := retryAfter(s.err)
	s.earliest = ended.Add(max(pause, minGap))
	s.newerAllowed = v.newerUsed.Add(-(newerBurst - 1) * newerInterval)
	switch {
	case s.err == nil:
		v.backoff = 0
		s.planned = later(renew, s.earliest)
	case pause > 0:
		s.planned, s.newerAllowed = s.earliest.Add(rand.N(pauseJitter)), s.earliest
	default:
		longest := maxBackoff
		if !s.usable() {
			longest = v.config.MaxBackoff
		}
		v.backoff = min(max(2*v.backoff, minGap), longest)
		s.planned = later(ended.Add(jitter(v.backoff)), s.earliest)
		s.newerAllowed = later(s.newerAllowed, s.earliest)
	}
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
func (v *Value[T]) sleep(ctx context.Context) {
	s := v.state.Load()
	start, forNewer, paused := s.planned, false, retryAfter(s.err) > 0
	for wait := until(start); wait > 0; wait = until(start) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(wait, clockCheck)):
		case <-v.needed:
			// The request may be older than the value that has come since.
			if !paused && !s.usable() {
				start = earlier(start, s.earliest)
			}
		case next := <-v.newer:
			// Likewise: it may have waited for a fetch that has ended.
			if next == s.next && !paused && s.newerAllowed.Before(start) {
				start, forNewer = s.newerAllowed, true
			}
		}
	}
	if forNewer {
		v.newerUsed = later(v.newerUsed, time.Now()).Add(newerInterval)
	}
}

// jitter takes up to a tenth off d, so that replicas started together spread.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }
