// Package fresh keeps one remote value fresh, so that requests only ever read.
//
// One goroutine, [Value.Run], makes the fetches, one at a time, and publishes each
// result as an immutable state behind an atomic pointer. Readers load that pointer:
// no lock is held across a fetch, and a reader that leaves does not affect others.
//
//	value    fetch        Get                 next state
//	none     in progress  waits for it        success: usable, planned; failure: none, planned
//	none     planned      fails at once, and  it is time: none, in progress
//	                      brings it forward
//	usable   planned      returns the value   it is time: usable, in progress; expiry: none, planned
//	usable   in progress  returns the value   success or failure: usable, planned; expiry: none, in progress
//
//	last fetch            next fetch                               brought forward
//	succeeded             Term.Renew after the last began          by Get without a value, by Newer
//	failed                after a back-off, 1 s doubled up to      by Get without a value, by Newer
//	                      30 s or MaxBackoff
//	failed, asked for a   when the pause has ended                 never
//	pause (Retry-After)
//
// Two fetches are at least 1 s apart; only Newer's may follow a success at once.
package fresh

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrNotFetched is the reason for a missing value when no fetch has failed: the
// last value expired before its renewal.
var ErrNotFetched = errors.New("not fetched yet")

// An Error is why a reader got no value, and when it may ask again.
type Error struct {
	Err   error     // of the last fetch or of the reader's context, or ErrNotFetched
	Retry time.Time // when the next fetch can start, or a pause ends; in the past, or zero: at once
}

func (e *Error) Error() string { return e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// A Term says how long a fetched value serves. Both durations are counted from
// the start of its fetch, so a slow answer never looks younger than it is.
type Term struct {
	Renew time.Duration // when to fetch the next one; up to a tenth earlier at random, so that replicas spread
	Until time.Duration // when to stop serving this one
}

// Config describes the remote value.
type Config[T comparable] struct {
	// Fetch gets the value, in bounded time: readers wait for it. If its error, or
	// one that it wraps, has a method RetryAfter() time.Duration with a positive
	// result, no fetch starts for that long.
	Fetch func(context.Context) (T, Term, error)

	// Report, if set, is called after each fetch that shutdown did not interrupt,
	// with its duration and its error, before readers see the result.
	Report func(took time.Duration, err error)

	// MaxBackoff caps the back-off while there is no value to serve; 0 means 30 s.
	MaxBackoff time.Duration
}

// A Value is one remote value, kept fresh. Use [New].
type Value[T comparable] struct {
	config Config[T]
	state  atomic.Pointer[state[T]] // written by Run only
	needed chan struct{}            // a reader found no value
	newer  chan chan struct{}       // a reader wants a newer value: the state.next that it waits for

	// Used by Run only.
	backoff   time.Duration // the last one, 0 after a success
	newerUsed time.Time     // the rate limit of Newer: a token bucket stored as one time (GCRA)
}

// A state is what readers see. It never changes once published.
type state[T comparable] struct {
	value    T
	begun    time.Time     // start of the value's fetch; zero: there has been no value
	until    time.Time     // the value serves until then
	err      error         // of the last fetch, nil if it succeeded
	fetching bool          // a fetch is in progress
	next     chan struct{} // closed when the next fetch has ended

	// When the next fetch starts. A pause is not cut short: all three are its end.
	planned   time.Time // if no reader asks
	forNeeded time.Time // if a Get without a value asks
	forNewer  time.Time // if a Newer asks
}

// New makes a value that has not been fetched. Readers already wait for its
// first fetch, which starts with [Value.Run].
func New[T comparable](config Config[T]) *Value[T] {
	config.MaxBackoff = cmp.Or(config.MaxBackoff, maxBackoff)
	v := &Value[T]{config: config, needed: make(chan struct{}, 1), newer: make(chan chan struct{}, 1)}
	v.state.Store(&state[T]{fetching: true, next: make(chan struct{})})
	return v
}

// Usable reports whether Get has a value now, and so will not wait.
func (v *Value[T]) Usable() bool { return v.state.Load().usable() }

// Last returns the last value, even one too old to serve; zero if there has been
// none. It is for metrics, not for serving.
func (v *Value[T]) Last() T { return v.state.Load().value }

// Begun returns when the fetch of the last value began, zero if there has been none.
func (v *Value[T]) Begun() time.Time { return v.state.Load().begun }

// Get returns the value. Without a usable one it waits for the fetch in progress
// until ctx ends. If no fetch is in progress it brings the next one forward and
// fails at once. Its errors are of type [*Error].
func (v *Value[T]) Get(ctx context.Context) (T, error) {
	s := v.state.Load()
	if s.fetching && !s.usable() {
		select {
		case <-s.next:
			s = v.state.Load()
		case <-ctx.Done():
			return *new(T), &Error{Err: ctx.Err()}
		}
	}
	if s.usable() {
		return s.value, nil
	}
	select {
	case v.needed <- struct{}{}:
	default: // another reader has asked
	}
	return *new(T), &Error{cmp.Or(s.err, ErrNotFetched), s.forNeeded}
}

// Newer returns a value newer than the given one if there is one; otherwise it asks
// for a fetch and waits for it, or for one in progress, until ctx ends. All callers
// of one moment share a fetch; five may follow one another, then one in 30 s. If no
// fetch can start before ctx's deadline, Newer does not wait: it returns the value
// that it has if the last fetch succeeded, which was then at most about 30 s ago.
//
// If the last fetch failed, or ctx ended before the fetch did, nothing can be
// decided: Newer returns an [*Error], though Get may still have a value.
func (v *Value[T]) Newer(ctx context.Context, than T) (T, error) {
	s := v.state.Load()
	if s.value != than {
		return v.Get(ctx)
	}
	select {
	case v.newer <- s.next:
	case <-s.next:
	case <-ctx.Done():
	}
	if deadline, ok := ctx.Deadline(); ok && s.forNewer.After(deadline) {
		return s.decide()
	}
	select {
	case <-s.next:
		return v.state.Load().decide()
	case <-ctx.Done():
		return *new(T), &Error{Err: ctx.Err()}
	}
}

// decide returns the value if it is the last fetch's.
func (s *state[T]) decide() (T, error) {
	if s.err == nil && s.usable() {
		return s.value, nil
	}
	return *new(T), &Error{cmp.Or(s.err, ErrNotFetched), s.forNewer}
}

// usable reports whether the state's value may be served now.
func (s *state[T]) usable() bool { return Until(s.until) > 0 }

// Until returns the time to t by the monotonic or the wall clock, whichever is less:
// the one stands still while the machine sleeps, the other can be set back.
func Until(t time.Time) time.Duration {
	now := time.Now()
	return min(t.Sub(now), time.Duration(t.UnixNano()-now.UnixNano()))
}
