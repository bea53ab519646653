package fresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily, takes: time.Second}
		v := start(t, r, 0)
		get(v)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if n, took, err := newer(v); n != 2 || took != time.Second || err != nil {
					t.Errorf("newer = %d after %v, %v; want 2 after 1s", n, took, err)
				}
			})
		}
		callers.Wait()
		wantFetches(t, r, 2)      // one for all callers of one moment
		for n := 3; n <= 6; n++ { // with the one above, five in a burst
			if got, took, err := newer(v); got != n || took != time.Second || err != nil {
				t.Errorf("newer = %d after %v, %v; want %d after 1s", got, took, err, n)
			}
		}
		if got, took, err := newer(v); got != 6 || took != 0 || err != nil {
			t.Errorf("newer over the limit = %d after %v, %v; want 6 at once", got, took, err)
		}
		// The burst began 5 s ago: its first place is free 30 s after that, and the
		// request above is remembered until then.
		time.Sleep(24 * time.Second)
		wantFetches(t, r, 6)
		time.Sleep(1500 * time.Millisecond)
		if got, took, err := newer(v); got != 7 || took != 500*time.Millisecond || err != nil {
			t.Errorf("newer during a fetch = %d after %v, %v; want 7 after 0.5s", got, took, err)
		}
		if n, err := v.Newer(t.Context(), 0); n != 7 || err != nil {
			t.Errorf("newer than an old value = %d, %v; want the last one", n, err)
		}
		wantFetches(t, r, 7)
	})
}

func TestNewerSharesTheFetchInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: 10 * time.Second, Until: time.Hour}}
		v := start(t, r, 0)
		get(v)
		for range 6 {
			newer(v)
		}
		r.set(2*time.Second, nil)
		time.Sleep(10500 * time.Millisecond) // the renewal began after 9 to 10 s
		if n, took, err := newer(v); n != 7 || took > 1500*time.Millisecond || err != nil {
			t.Errorf("newer over the limit = %d after %v, %v; want the renewal's 7 within 1.5s", n, took, err)
		}
	})
}

func TestRequestsOlderThanTheValueAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily, takes: 2 * time.Second}
		v := start(t, r, 0)
		time.Sleep(time.Second)
		v.needed <- struct{}{}
		v.newer <- v.state.Load().next
		time.Sleep(time.Minute)
		wantFetches(t, r, 1)
	})
}

func TestAFloodOfNewerIsAtMostOneFetchIn30Seconds(t *testing.T) {
	for _, outage := range []error{nil, errDown} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: daily, takes: 50 * time.Millisecond}
			v := start(t, r, 0)
			get(v)
			r.set(50*time.Millisecond, outage)
			for range 6000 { // ten minutes, ten a second, half of which leave early
				ctx, leave := context.WithCancel(t.Context())
				go v.Newer(ctx, v.Last())
				time.Sleep(20 * time.Millisecond)
				leave()
				go newer(v)
				time.Sleep(80 * time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			// The first, a burst of five, and one in each of the 20 half minutes. In an
			// outage, those of the back-off too: one in 27 to 30 s.
			most := 1 + 5 + 20
			if outage != nil {
				most += 605 / 27
			}
			if n := len(r.fetches()); n < 24 || n > most {
				t.Errorf("%v: %d fetches, want 24 to %d", outage, n, most)
			}
			if gap := slices.Min(r.gaps(2)); outage != nil && gap < minGap {
				t.Errorf("%v: two fetches are %v apart, want at least %v", outage, gap, minGap)
			}
		})
	}
}

func TestNewerDecidesNothingInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily}
		v := start(t, r, 0)
		get(v)
		r.set(0, errDown)
		for n := range 6 { // the second fetch is the back-off's, the others are a burst
			want := min(minGap, time.Duration(n)*minGap) // the first follows a success
			if _, took, err := newer(v); !errors.Is(err, errDown) || took != want || n < 5 && retryIn(err) != minGap {
				t.Errorf("newer %d = %v after %v, retry in %v; want errDown after %v", n+1, err, took, retryIn(err), want)
			}
		}
		_, took, err := newer(v) // over the limit, until 30 s after the first
		if !errors.Is(err, errDown) || took != 0 || retryIn(err) != 25*time.Second {
			t.Errorf("newer over the limit = %v after %v, retry in %v; want errDown at once, 25s", err, took, retryIn(err))
		}
		if n, _, err := get(v); n != 1 || err != nil || time.Since(v.Begun()) != 5*time.Second {
			t.Errorf("get = %d, %v; want the value of 5s ago", n, err)
		}
		r.set(hang, nil)
		time.Sleep(retryIn(err) + time.Millisecond)
		if _, took, err := newer(v); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("newer of a fetch that hangs = %v after %v, want DeadlineExceeded after 3s", err, took)
		}
	})
}

func TestNewerIsServedWithin35SecondsAfterAnOutage(t *testing.T) {
	for _, takes := range []time.Duration{0, hang} { // an outage of failures, one of hanging fetches
		for second := range 45 { // of more than the limit's period: then it ends
			synctest.Test(t, func(t *testing.T) {
				r := &remote{term: daily}
				v := start(t, r, 0)
				get(v)
				r.set(takes, errDown)
				for begun := time.Now(); time.Since(begun) < 2*time.Minute+time.Duration(second)*time.Second; time.Sleep(time.Second) {
					if n, _, err := newer(v); err == nil {
						t.Fatalf("newer = %d in the outage, want an error", n)
					}
				}
				r.set(0, nil)
				back := time.Now()
				for _, _, err := newer(v); err != nil; _, _, err = newer(v) {
					time.Sleep(time.Second)
				}
				if took := time.Since(back); took > 35*time.Second {
					t.Errorf("fetches of %v, until second %d: newer succeeds %v after the return, want at most 35s", takes, second, took)
				}
			})
		}
	}
}

// throttled is an error with a pause.
type throttled time.Duration

func (p throttled) Error() string             { return "throttled" }
func (p throttled) RetryAfter() time.Duration { return time.Duration(p) }

func TestNothingIsFetchedDuringAPause(t *testing.T) {
	const takes, pause = 3 * time.Second, 12 * time.Second
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}}
			throttle := func() { r.set(takes, fmt.Errorf("wrapped: %w", throttled(pause))) }
			if !held {
				throttle()
			}
			v := start(t, r, 0)
			if held {
				get(v)
				throttle()
				time.Sleep(time.Minute) // the renewal has begun
			}
			for range 3 {
				n := len(r.fetches())
				end := r.fetches()[n-1].Add(takes + pause)
				time.Sleep(time.Until(end) - pause + time.Millisecond) // the fetch has ended
				for left := time.Until(end); left > 2*time.Millisecond; left = time.Until(end) {
					value, _, err := get(v)
					if held && (value != 1 || err != nil) {
						t.Fatalf("get = %d, %v; want the value held", value, err)
					}
					if held {
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						_, err = v.Newer(ctx, value)
						cancel()
					}
					if !errors.As(err, new(throttled)) || retryIn(err) != left {
						t.Fatalf("a value held: %v, error %v, retry in %v; want the pause's end in %v", held, err, retryIn(err), left)
					}
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(time.Until(end) + 2*time.Second)
				if after := r.fetches(); len(after) != n+1 || !after[n].After(end) {
					t.Fatalf("%d fetches, the last %v after the pause's end; want one within 2s, and not at once", len(after)-n, after[len(after)-1].Sub(end))
				}
			}
			r.set(0, nil)
			time.Sleep(takes + pause + 2*time.Second)
			if n, _, err := get(v); err != nil || n < 4 {
				t.Errorf("after the pauses: get = %d, %v; want a new value", n, err)
			}
		})
	}
}

func TestNewerWaitsForTheEndOfAPauseThatIsNear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily}
		v := start(t, r, 0)
		get(v)
		for range 4 {
			newer(v)
		}
		r.set(0, throttled(12*time.Second))
		newer(v) // the last within the limit
		if _, took, err := newer(v); took != 0 || retryIn(err) != 12*time.Second {
			t.Errorf("newer = %v after %v, retry in %v; want an error at once, 12s", err, took, retryIn(err))
		}
		r.set(0, nil)
		time.Sleep(11 * time.Second)
		if n, took, err := newer(v); n != 7 || took > 2*time.Second || err != nil {
			t.Errorf("newer 1s before the pause's end = %d after %v, %v; want 7 within 2s", n, took, err)
		}
	})
}

func TestReportAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{takes: 2 * time.Second, err: errDown}
		type report struct {
			took time.Duration
			err  error
		}
		var reports []report
		v := New(Config[int]{Fetch: r.fetch, Report: func(took time.Duration, err error) { reports = append(reports, report{took, err}) }})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, func() { r.set(time.Second, nil) }) // for a fetch from 3 s to 4 s
		time.AfterFunc(3500*time.Millisecond, func() { r.set(hang, nil) })        // from 5 s on
		time.AfterFunc(6*time.Second, cancel)
		waiter := make(chan error, 1)
		time.AfterFunc(5500*time.Millisecond, func() { _, _, err := get(v); waiter <- err })
		begun := time.Now()
		v.Run(ctx)
		if took := time.Since(begun); took != 6*time.Second {
			t.Errorf("Run returned after %v, want 6s", took)
		}
		if err := <-waiter; !errors.Is(err, context.Canceled) {
			t.Errorf("the waiting reader got %v, want context.Canceled", err)
		}
		if want := []report{{2 * time.Second, errDown}, {time.Second, nil}}; !slices.Equal(reports, want) {
			t.Errorf("reports %v, want %v and none of the interrupted fetch", reports, want)
		}
	})
}
