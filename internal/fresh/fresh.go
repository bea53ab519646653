// Package fresh keeps one remote value fresh, so that requests only ever read.
//
// One goroutine, [Value.Run], owns the fetch: it renews the value before it is
// stale, backs off when the remote end fails, and publishes each result as one
// immutable state behind an atomic pointer. Any number of readers take the last
// good value from there; a reader that finds none waits for the fetch under
// way, and may leave at any time without harm to it. No lock exists, so none
// can be held across a fetch.
package fresh

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout bounds one fetch, and so what a reader can wait for one.
	fetchTimeout = 10 * time.Second

	// minGap is the least time from the end of one fetch to the begin of the
	// next, however many readers hurry: an outage must not become a flood.
	minGap = time.Second

	// maxBackoff is the longest pause after a failure: short enough that a
	// recovery is noticed, long enough to leave the remote end in peace.
	maxBackoff = 30 * time.Second

	// askBurst and askEvery bound what [Value.Newer] can cause: some fetches at
	// once for honest askers, then a trickle, since anyone may be asking.
	askBurst = 5
	askEvery = 30 * time.Second

	// clockCheck is how often a pause looks at the wall clock. Timers stand
	// still while a laptop sleeps; the remote end's clock does not.
	clockCheck = 30 * time.Second
)

// ErrNone is why there is no value where no fetch has failed: the first is not
// finished, or the last value ended before its renewal came.
var ErrNone = errors.New("not fetched yet")

// ErrWaited means that the reader's patience ended before the fetch under way.
var ErrWaited = errors.New("waited too long for the fetch under way")

// A Term says how long a fetched value serves. Both are counted from the begin
// of its fetch, so a slow answer never looks younger than it is.
type Term struct {
	Renew time.Duration // when to fetch the next one; up to a tenth earlier, by chance, so that replicas spread
	Until time.Duration // when to stop serving this one
}

// Config is what a [Value] needs to know of the remote end.
type Config[T comparable] struct {
	// Fetch gets the value. It must return soon after its context ends, which
	// is after 10 s or at shutdown. It is never called twice at once.
	Fetch func(context.Context) (T, Term, error)

	// Report, if set, hears of each fetch: what it took and how it ended. It is
	// called by the owner goroutine, before readers see the result.
	Report func(took time.Duration, err error)

	// Hurry caps the back-off while there is nothing to serve; 0 means 30 s.
	Hurry time.Duration
}

// A Value is one remote value, kept fresh. Use [New].
type Value[T comparable] struct {
	config Config[T]
	state  atomic.Pointer[state[T]] // written by the owner only
	hurry  chan struct{}            // a reader found nothing to serve
	ask    chan chan struct{}       // a reader wants a newer value: the state.next that it waits for
}

// A state is what readers see; it never changes once published.
type state[T comparable] struct {
	value    T
	begun    time.Time     // its fetch began then; zero: there has been none
	until    time.Time     // it serves until then
	err      error         // why the last fetch failed, nil if it did not
	fetching bool          // a fetch is under way
	askable  time.Time     // when the next fetch for an asker may begin
	next     chan struct{} // closed when the next fetch has ended
}

// New makes a value that has not been fetched. Readers already wait for its
// first fetch, which begins with [Value.Run].
func New[T comparable](config Config[T]) *Value[T] {
	if config.Hurry == 0 {
		config.Hurry = maxBackoff
	}
	v := &Value[T]{config: config, hurry: make(chan struct{}, 1), ask: make(chan chan struct{}, 1)}
	v.state.Store(&state[T]{fetching: true, next: make(chan struct{})})
	return v
}

// Had reports whether there has been a value, fresh or not.
func (v *Value[T]) Had() bool { return !v.Begun().IsZero() }

// Last returns the last good value, even one too old to serve, and whether
// there is one. It is for metrics and for looking around, not for serving.
func (v *Value[T]) Last() (T, bool) {
	s := v.state.Load()
	return s.value, !s.begun.IsZero()
}

// Begun is when the fetch of the last good value began, zero where there has been
// none: the value is as old as that at most.
func (v *Value[T]) Begun() time.Time { return v.state.Load().begun }

// Get returns the value. With none to serve it waits for the fetch under way,
// until the deadline ([ErrWaited]) or the end of ctx (its error). With none
// under way it has the next one hastened, and returns the last fetch's error at
// once.
func (v *Value[T]) Get(ctx context.Context, deadline time.Time) (T, error) {
	s := v.state.Load()
	if s.usable() {
		return s.value, nil
	}
	return v.wait(ctx, s, deadline)
}

// wait is [Value.Get] where s has nothing to serve.
func (v *Value[T]) wait(ctx context.Context, s *state[T], deadline time.Time) (T, error) {
	if s.fetching {
		ctx, cancel := context.WithDeadlineCause(ctx, deadline, ErrWaited)
		defer cancel()
		select {
		case <-s.next:
		case <-ctx.Done():
			return *new(T), context.Cause(ctx)
		}
		if s = v.state.Load(); s.usable() {
			return s.value, nil
		}
	}
	select {
	case v.hurry <- struct{}{}:
	default: // somebody else has said so
	}
	if s.err == nil {
		return *new(T), ErrNone
	}
	return *new(T), s.err
}

// Newer returns another value than the one that the caller has found wanting. If
// there is none yet it asks for a fetch and waits for that, until the deadline
// or the end of ctx; the value may still be the same one then, since a failed
// fetch takes nothing away. All who ask at one moment share a fetch; five may
// follow one another, then one in 30 s. Where that is too late for the deadline
// it does not wait, but the fetch is still made.
func (v *Value[T]) Newer(ctx context.Context, deadline time.Time, than T) (T, error) {
	s := v.state.Load()
	if s.value != than {
		return v.Get(ctx, deadline)
	}
	if !s.fetching && s.askable.After(deadline) {
		select {
		case v.ask <- s.next:
		default:
		}
		return v.Get(ctx, deadline)
	}
	patience, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if !s.fetching {
		select {
		case v.ask <- s.next:
		case <-s.next:
		case <-patience.Done():
		}
	}
	select {
	case <-s.next:
	case <-patience.Done():
	}
	return v.Get(ctx, deadline)
}

// usable reports whether the state's value may be served now.
func (s *state[T]) usable() bool { return !past(s.until) }

// past reports whether t has come, by the monotonic clock or by the wall clock:
// the one stands still while the machine sleeps, the other can be set back.
func past(t time.Time) bool { return until(t) <= 0 }

// until is the time to t by whichever of the two clocks says less.
func until(t time.Time) time.Duration {
	now := time.Now()
	return min(t.Sub(now), t.Round(0).Sub(now.Round(0)))
}

// jitter takes up to a tenth off d, so that replicas started together part.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/10+1)
}
