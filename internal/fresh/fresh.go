// Package fresh keeps one remote value fresh, so that requests only ever read it.
//
// One goroutine, [Value.Run], owns the value. It makes the fetches, one at a time, and
// after each publishes an immutable state behind an atomic pointer. Readers load that
// pointer. So no lock is held across a fetch, and readers who leave early, or who come
// in thousands, change nothing for others.
//
// When the next fetch starts depends on how the last one ended:
//
//   - It succeeded: the next one starts when the value is to be renewed, well before it
//     expires.
//   - It failed: the next one starts after a back-off of 1 s, which each further failure
//     doubles, up to a limit. A value that has not expired keeps serving meanwhile.
//   - It failed, and the remote asked for a pause (Retry-After): the next one starts
//     when the pause has ended. Nothing cuts a pause short.
//
// Readers can bring the next fetch forward. [Value.Get], if it has no value, asks for
// one as soon as 1 s has passed since the end of the last. [Value.Newer], which asks
// because the value seems to be outdated, is given one if 10 s have passed since the
// beginning of the last.
package fresh

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrNotFetched is why a reader got no value if the last fetch did not fail: its value
// has expired, for example while a laptop slept, and the next one is not fetched yet.
var ErrNotFetched = errors.New("not fetched yet")

// An Error is why a reader got no value, and when it may ask again.
type Error struct {
	Err   error     // of the last fetch, or of the reader's context, or ErrNotFetched
	Retry time.Time // when the next fetch can start; in the past, or zero: at once
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// A Term says how long a fetched value serves. Both durations are counted from the
// beginning of its fetch, so a value that took long never looks younger than it is.
type Term struct {
	Renew time.Duration // when to fetch the next one; up to a tenth earlier, at random
	Until time.Duration // when to stop serving this one
}

// Config describes the remote value.
type Config[T any] struct {
	// Fetch gets the value. It must return within a bounded time, since readers wait
	// for it. If its error, or one that it wraps, has a method RetryAfter() time.Duration
	// with a positive result, no fetch starts for that long.
	Fetch func(context.Context) (T, Term, error)

	// Report, if set, is called after each fetch, with its duration and its error, before
	// readers see the result. A fetch that Run's context interrupted is not reported.
	Report func(took time.Duration, err error)

	// MaxBackoff is the longest back-off while there is no value to serve; 0 means 30 s.
	// With a value it is 30 s.
	MaxBackoff time.Duration
}

// A Value is one remote value, kept fresh. Use [New].
type Value[T any] struct {
	config  Config[T]
	state   atomic.Pointer[state[T]]      // written by Run only
	backoff time.Duration                 // the last one, 0 after a success; used by Run only
	left    func(time.Time) time.Duration // Until, or a test's clock
}

// A state is what readers see. It never changes once it is published. In this type, the
// next fetch is the fetch in progress, or if there is none, the one to come.
type state[T any] struct {
	value  T
	begun  time.Time // beginning of the value's fetch; zero: there has been no value
	expiry time.Time // of the value

	err      error         // of the last fetch; nil if it succeeded
	fetching bool          // the next fetch is in progress
	ended    chan struct{} // closed when the next fetch has ended
	asked    chan struct{} // tells Run that a reader wants the next fetch

	// When the next fetch starts. During a pause all three are its end.
	planned  time.Time // if no reader asks
	forGet   time.Time // if a Get without a value asks
	forNewer time.Time // if a Newer asks; never before forGet
}

// New returns a value that has not been fetched. Readers already wait for its first
// fetch, which starts with [Value.Run].
func New[T any](config Config[T]) *Value[T] {
	v := &Value[T]{config: config, left: Until}
	v.state.Store(&state[T]{fetching: true, ended: make(chan struct{})})
	return v
}

// Last returns the last value, even if it has expired; zero if there has been none. It
// may have expired, so it is not for serving: see [Value.Get].
func (v *Value[T]) Last() T { return v.state.Load().value }

// Begun returns when the fetch of the last value began; zero if there has been none.
func (v *Value[T]) Begun() time.Time { return v.state.Load().begun }

// Get returns the value. If there is none to serve it waits for the fetch in progress,
// or until ctx ends. If no fetch is in progress it fails at once, and brings the next
// one forward. Its errors are of type [*Error].
func (v *Value[T]) Get(ctx context.Context) (T, error) {
	s := v.state.Load()
	if s.fetching && !v.usable(s) {
		s = v.await(ctx, s)
	}
	if v.usable(s) {
		return s.value, nil
	}
	s.ask()
	return s.failed(s.forGet)
}

// Newer returns the value of a fetch that began less than 10 s ago. If there was none
// it asks for a fetch, or takes the one in progress, and waits for its end or until ctx
// ends. All callers of one moment share that fetch, so a flood of them causes at most
// six a minute.
//
// If the fetch failed, or none may start yet because the last one failed or because of
// a pause, or ctx ended first, Newer returns an [*Error], though Get may have a value.
func (v *Value[T]) Newer(ctx context.Context) (T, error) {
	s := v.state.Load()
	if s.fetching || v.left(s.forNewer) <= 0 {
		s.ask()
		s = v.await(ctx, s)
	}
	if s.err == nil && v.usable(s) {
		return s.value, nil
	}
	return s.failed(s.forNewer)
}

// await waits for the end of the next fetch, and returns the state that it made. If ctx
// ends first, the state has only that error. Its zero times mean that the reader may ask
// again at once, and ask does nothing on its nil channel.
func (v *Value[T]) await(ctx context.Context, s *state[T]) *state[T] {
	select {
	case <-s.ended:
		return v.state.Load()
	case <-ctx.Done():
		return &state[T]{err: ctx.Err()}
	}
}

// ask asks Run to start the next fetch at s.forGet, or now if that is past. It does
// nothing if the fetch is in progress, or another reader has asked.
func (s *state[T]) ask() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// failed returns no value, and the error that says why and when to ask again.
func (s *state[T]) failed(retry time.Time) (none T, err error) {
	return none, &Error{cmp.Or(s.err, ErrNotFetched), retry}
}

// usable reports whether the state's value may be served now.
func (v *Value[T]) usable(s *state[T]) bool { return v.left(s.expiry) > 0 }

// Until returns the time left until t by the monotonic or by the wall clock, whichever
// is less: the first stands still while the machine sleeps, the second can be set back.
func Until(t time.Time) time.Duration {
	return timeLeft(t, time.Now(), time.Now().Round(0))
}

// timeLeft is Until with both clocks given: wall has no monotonic reading, so t.Sub(wall)
// uses the wall clock.
func timeLeft(t, now, wall time.Time) time.Duration { return min(t.Sub(now), t.Sub(wall)) }
