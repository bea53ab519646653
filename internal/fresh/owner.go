package fresh

import (
	"context"
	"time"
)

// An owner is the state of [Value.Run]: what only its goroutine knows.
type owner[T comparable] struct {
	*Value[T]
	backoff time.Duration // the last pause after a failure, 0 after a success
	asks    time.Time     // the time up to which the askers' fetches are spent (a token bucket in one value, GCRA)
}

// Run fetches the value, and again whenever that is due, until ctx ends. It
// returns when the fetch under way has returned. Call it once.
func (v *Value[T]) Run(ctx context.Context) {
	o := owner[T]{Value: v}
	for ctx.Err() == nil {
		due := o.fetch(ctx)
		o.pause(ctx, due)
	}
}

// fetch makes one fetch, publishes its result, and returns when the next is due.
func (o *owner[T]) fetch(ctx context.Context) (due time.Time) {
	s := *o.state.Load()
	s.fetching = true
	o.publish(s)

	fetchCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	begun := time.Now()
	value, term, err := o.config.Fetch(fetchCtx)
	ended := time.Now()
	if o.config.Report != nil && ctx.Err() == nil {
		o.config.Report(ended.Sub(begun), err)
	}

	done := s.next
	s.fetching, s.err, s.next, s.askable = false, err, make(chan struct{}), o.askable()
	if err == nil {
		o.backoff = 0
		s.value, s.begun, s.until = value, begun, begun.Add(term.Until)
		due = begun.Add(jitter(term.Renew))
	} else {
		o.backoff = min(max(2*o.backoff, minGap), o.longest(s))
		due = ended.Add(jitter(o.backoff))
	}
	o.publish(s)
	close(done) // only now: who wakes must find the result
	return later(due, ended.Add(minGap))
}

// longest is the cap on the back-off: shorter while there is nothing to serve.
func (o *owner[T]) longest(s state[T]) time.Duration {
	if s.usable() {
		return maxBackoff
	}
	return o.config.Hurry
}

// pause waits until the next fetch is due, or readers hasten it.
func (o *owner[T]) pause(ctx context.Context, due time.Time) {
	soonest := time.Now().Add(minGap)
	for asked := false; ; {
		wait := until(due)
		if wait <= 0 {
			if asked {
				o.spendAsk()
			}
			return
		}
		timer := time.NewTimer(min(wait, clockCheck))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-o.hurry:
			// A reader's word may be older than the value that came since.
			if !o.state.Load().usable() {
				due = earlier(due, soonest)
			}
		case next := <-o.ask:
			// Likewise: who waited for a fetch that has ended asks for nothing.
			if next == o.state.Load().next && !asked && o.askable().Before(due) {
				asked, due = true, o.askable()
			}
		}
		timer.Stop()
	}
}

// askable is when the next fetch for an asker may begin.
func (o *owner[T]) askable() time.Time {
	return o.asks.Add(-(askBurst - 1) * askEvery)
}

// spendAsk takes one of the askers' fetches.
func (o *owner[T]) spendAsk() {
	o.asks = later(o.asks, time.Now()).Add(askEvery)
}

// publish makes s what readers see from now on.
func (o *owner[T]) publish(s state[T]) { o.state.Store(&s) }

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
