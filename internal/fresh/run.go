package fresh

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	minGap        = time.Second      // from one fetch's end to the next one's start: an outage must not become a flood
	maxBackoff    = 30 * time.Second // so that a recovery is noticed soon
	newerBurst    = 5                // fetches that Newer may cause at once, for honest callers,
	newerInterval = 30 * time.Second // and then one in this time, since anyone may be calling
	clockCheck    = 30 * time.Second // between looks at the wall clock: timers stand still while a laptop sleeps
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

	begun := time.Now()
	value, term, err := v.config.Fetch(ctx)
	ended := time.Now()
	if v.config.Report != nil && ctx.Err() == nil {
		v.config.Report(ended.Sub(begun), err)
	}

	s.fetching, s.err, s.next = false, err, make(chan struct{})
	if err == nil {
		s.value, s.begun, s.until = value, begun, begun.Add(term.Until)
	}
	v.plan(&s, ended, jitter(term.Renew)-ended.Sub(begun))
	v.state.Store(&s)
	close(busy.next) // only now: its waiters must find the result
}

// plan sets when the next fetch can start; it is due after renew if the one that
// ended succeeded.
func (v *Value[T]) plan(s *state[T], ended time.Time, renew time.Duration) {
	pause := retryAfter(s.err)
	gap := max(pause, minGap)
	planned := max(renew, gap)
	newer := max(0, v.newerUsed.Add(-(newerBurst-1)*newerInterval).Sub(ended))
	switch {
	case s.err == nil:
		v.backoff = 0
	case pause > 0:
		planned, newer = gap, gap
	default:
		longest := maxBackoff
		if !s.usable() {
			longest = v.config.MaxBackoff
		}
		v.backoff = min(max(2*v.backoff, minGap), longest)
		planned, newer = max(jitter(v.backoff), gap), max(newer, gap)
	}
	s.planned, s.forNeeded, s.forNewer = ended.Add(planned), ended.Add(gap), ended.Add(min(newer, planned))
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
	start, newer := s.planned, false
	for wait := Until(start); wait > 0; wait = Until(start) {
		// A request may be from before this state.
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(wait, clockCheck)):
		case <-v.needed:
			if !s.usable() && s.forNeeded.Before(start) {
				start = s.forNeeded
			}
		case next := <-v.newer:
			if next == s.next && s.forNewer.Before(start) {
				start, newer = s.forNewer, true
			}
		}
	}
	if newer {
		now := time.Now()
		v.newerUsed = now.Add(max(0, v.newerUsed.Sub(now)) + newerInterval)
	}
}

// jitter takes up to a tenth off d, so that replicas started together spread.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }
